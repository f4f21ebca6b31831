namespace FastTrap.Isa.Arm64;

/// <summary>Classes of A64 instructions which are told apart. Everything that may stand at any address is <see cref="Independent"/>.</summary>
internal enum Arm64Class : byte
{
    /// <summary>No instruction of any version of the architecture that is known here.</summary>
    Unallocated,

    /// <summary>UDF: undefined for ever.</summary>
    PermanentlyUndefined,

    /// <summary>Has the same effect at every address.</summary>
    Independent,

    /// <summary>Depends on its address, or on its neighbours, in a way that is not carried out here.</summary>
    PositionDependent,

    // Branches.
    Branch,
    BranchLink,
    BranchConditional,
    CompareBranch,
    TestBranch,
    BranchRegister,
    BranchLinkRegister,
    Return,
    BranchAuthenticated,
    BranchLinkAuthenticated,
    ReturnAuthenticated,
    ExceptionReturn,

    // Exceptions and system.
    Breakpoint,
    SystemCall,

    /// <summary>HVC, SMC, HLT, DCPSn: undefined for user programs.</summary>
    ExceptionGenerating,
    Hint,

    // Relative to the program counter.
    Address,
    LoadLiteral,

    // Exclusives.
    LoadExclusive,
    StoreExclusive,
    ClearExclusive,

    // What is emulated although it might stand anywhere.
    AddSubtractImmediate,
    AddSubtractShifted,
    LogicalShifted,
    MoveWide,
    LoadStorePair,
    LoadStoreImmediate,
    LoadStoreUnsignedImmediate,
}
