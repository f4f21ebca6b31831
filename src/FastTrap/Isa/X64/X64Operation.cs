namespace FastTrap.Isa.X64;

/// <summary>What <see cref="X64Emulator"/> can do; see <see cref="DisplacedInstruction.Operation"/>.</summary>
internal enum X64Operation : byte
{
    /// <summary>Not emulated.</summary>
    None,
    Nop,

    // Control transfers.
    Jump,
    JumpConditional,
    JumpIndirect,
    Call,
    CallIndirect,
    Return,
    Loop,
    LoopEqual,
    LoopNotEqual,
    JumpCounterZero,

    // The stack.
    Push,
    Pop,
    Leave,

    // Data: destination, source.
    LoadAddress,
    Move,
    MoveZeroExtended,
    MoveSignExtended,
    MoveConditional,
    SetConditional,
    Exchange,
    SignExtendAccumulator,
    SignIntoData,

    // Arithmetic and logic.
    Add,
    AddWithCarry,
    Subtract,
    SubtractWithBorrow,
    Compare,
    And,
    Or,
    ExclusiveOr,
    Test,
    Increment,
    Decrement,
    Negate,
    Not,
}

/// <summary>Which operands there are; see <see cref="DisplacedInstruction.Form"/>. The first letters are the destination's.</summary>
internal enum X64Form : byte
{
    None,
    Register,
    Memory,
    Immediate,
    RegisterRegister,
    RegisterMemory,
    RegisterImmediate,
    MemoryRegister,
    MemoryImmediate,
}
