namespace FastTrap.Isa;

/// <summary>Why there is no window, or why one cannot be moved.</summary>
internal enum WindowRefusal : byte
{
    /// <summary>There is one.</summary>
    None,

    /// <summary>No instruction of a known function starts there.</summary>
    NotAnInstruction,

    /// <summary>The function holds data or overlapping instructions, or its extent is not known.</summary>
    NotDecodable,

    /// <summary>The function has an indirect jump that is not understood, and the instruction alone is too short.</summary>
    UnknownTargets,

    /// <summary>Control may come into the bytes that would be needed, and no island is in reach.</summary>
    Target,

    /// <summary>The bytes that would be needed are part of another window or island.</summary>
    Claimed,

    /// <summary>What follows ENDBR64 is also reached by a jump.</summary>
    BranchTarget,

    /// <summary>The instruction cannot be moved: a system call, a transaction's begin, a far transfer, a trap, ...</summary>
    NotMovable,

    /// <summary>An operand or target cannot be reached from the trampoline.</summary>
    OutOfReach,
}
