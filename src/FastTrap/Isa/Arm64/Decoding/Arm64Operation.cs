namespace FastTrap.Isa.Arm64;

/// <summary>What <see cref="Arm64Emulator"/> can do; see <see cref="DisplacedInstruction.Operation"/>.</summary>
internal enum Arm64Operation : byte
{
    /// <summary>Not emulated.</summary>
    None,
    Nop,

    // Control transfers.
    Branch,
    BranchLink,
    BranchConditional,
    CompareBranch,
    TestBranch,
    BranchRegister,
    BranchLinkRegister,

    // Memory.
    Load,
    Store,
    LoadPair,
    StorePair,

    // Data: destination, source.
    SetImmediate,
    MoveKeep,
    Add,
    AddSetFlags,
    Subtract,
    SubtractSetFlags,
    And,
    AndSetFlags,
    Or,
    ExclusiveOr,
}

/// <summary>Which operands there are; see <see cref="DisplacedInstruction.Form"/>.</summary>
internal enum Arm64Form : byte
{
    None,

    /// <summary>The second operand is <see cref="DisplacedInstruction.Immediate"/>.</summary>
    Immediate,

    /// <summary>The second operand is the register <see cref="DisplacedInstruction.Index"/>, shifted.</summary>
    ShiftedRegister,

    /// <summary>As <see cref="ShiftedRegister"/>, and inverted.</summary>
    InvertedRegister,

    /// <summary>Memory at <see cref="DisplacedInstruction.Displacement"/>.</summary>
    Literal,

    /// <summary>Memory at the base plus the displacement.</summary>
    Offset,

    /// <summary>As <see cref="Offset"/>; the sum is written to the base.</summary>
    PreIndex,

    /// <summary>Memory at the base, to which the displacement is added afterwards.</summary>
    PostIndex,
}
