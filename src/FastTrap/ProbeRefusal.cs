namespace FastTrap;

/// <summary>Why a probe cannot be enabled.</summary>
public enum ProbeRefusal
{
    /// <summary>It can.</summary>
    None,

    /// <summary>The readable bytes end inside the instruction.</summary>
    Truncated,

    /// <summary>The bytes are no instruction.</summary>
    Undecodable,

    /// <summary>A breakpoint of another debugger, or of the program itself, stands there.</summary>
    AlreadyBreakpoint,

    /// <summary>A software interrupt.</summary>
    SoftwareInterrupt,

    /// <summary>A far call, jump or return.</summary>
    FarTransfer,

    /// <summary>A return from an interrupt.</summary>
    InterruptReturn,

    /// <summary>A system call instruction which does not return to where it was called (sysenter, sysexit, sysret).</summary>
    FastSystemTransfer,

    /// <summary>An instruction which holds off traps until after the next one.</summary>
    MasksTraps,

    /// <summary>A privileged or input/output instruction.</summary>
    Privileged,

    /// <summary>A near branch with an operand-size prefix, which processors of different makers take differently.</summary>
    OperandSizeBranch,

    /// <summary>A branch through memory with two different segment prefixes, whose effect is undefined.</summary>
    ConflictingSegments,

    /// <summary>A branch was to be run out of line.</summary>
    NotForSlots,

    /// <summary>No memory could be had within reach of the instruction's operand, and no register can be borrowed.</summary>
    OutOfReach,

    /// <summary>The function holds data or overlapping instructions, so only its entry can be probed.</summary>
    NotDecodable,

    /// <summary>The address is not aligned as instructions are.</summary>
    Misaligned,

    /// <summary>The symbol has no size, so the function's returns and instructions are not known; only its entry can be probed.</summary>
    UnknownSize,

    /// <summary>The offset is not the start of an instruction.</summary>
    NotAnInstruction,

    /// <summary>The offset is outside the function.</summary>
    OutsideFunction,

    /// <summary>The function is left by no return and no jump that could be found.</summary>
    NoReturnSite,

    /// <summary>The instruction's memory could not be read or written.</summary>
    MemoryAccess,

    /// <summary>The instruction must run out of line, and memory for that cannot be had in the target.</summary>
    NoSlot,

    /// <summary>An indirect function (IFUNC) whose implementation in use is not known.</summary>
    UnresolvedIndirectFunction,

    /// <summary>The limit on tracepoints was reached.</summary>
    TooManyTracepoints,

    /// <summary>The semaphore of a static probe could not be raised.</summary>
    SemaphoreAccess,

    /// <summary>
    /// An arm64 load-exclusive or store-exclusive, or an instruction between the two: a trap there would make the store fail for ever.
    /// </summary>
    ExclusiveSequence,

    /// <summary>
    /// An arm64 instruction of a recent extension whose effect depends on its address or on its neighbours (compare-and-branch of two registers, return-address
    /// signing with the program counter, the later parts of memory copies).
    /// </summary>
    PositionDependent,

    /// <summary>The code changed, or went away, before the probe could be enabled.</summary>
    CodeChanged,

    /// <summary>The library was unloaded (<c>dlclose</c>) while the probe was enabled.</summary>
    Unloaded,

    /// <summary>Its hits cost more than <see cref="ProbeOptions.Budget"/> allows, and it was disabled.</summary>
    OverBudget,

    /// <summary>The Jump mechanism was asked for (<see cref="ProbeMechanism.Jump"/>), and cannot be had there.</summary>
    NotByJump,

    /// <summary>The program describes the probe by DOF (<c>.SUNW_dof</c>) that is malformed, or places it outside of the module's code.</summary>
    InvalidDof,

    /// <summary>A trap that leads to code in the target was asked for (<see cref="ProbeMechanism.InProcessTrap"/>), and cannot be had there.</summary>
    NotByInProcessTrap,
}
