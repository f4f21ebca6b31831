namespace FastTrap.Programs;

/// <summary>What an instruction of a probe program does. The operands are results of earlier instructions.</summary>
internal enum ProgramOp : byte
{
    /// <summary><see cref="ProgramInstruction.Immediate"/> itself.</summary>
    Constant,

    /// <summary>Argument number <see cref="ProgramInstruction.Immediate"/> of the function.</summary>
    Argument,

    ReturnValue,
    ThreadId,
    ProcessId,
    TimestampNs,
    ProgramCounter,

    /// <summary>Target memory at A: <see cref="ProgramInstruction.Immediate"/> is the length, 1, 2, 4 or 8, with 16 added for a signed value.</summary>
    Load,

    /// <summary>A converted from <see cref="ProgramInstruction.OperandType"/>.</summary>
    Convert,

    /// <summary>A as it would be after a cast to so few bytes: the immediate as in <see cref="Load"/>.</summary>
    Narrow,

    Negate,
    Not,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,

    /// <summary>A equals B, both of <see cref="ProgramInstruction.OperandType"/>; the result is a Boolean, as of the two that follow.</summary>
    Equal,
    Less,
    LessOrEqual,

    /// <summary>B where A, else C. Only the chosen one can make the result invalid.</summary>
    Select,
}
