namespace FastTrap.Programs;

/// <summary>One instruction of a probe program; its number is the name of its result.</summary>
/// <param name="Op">What it does.</param>
/// <param name="Type">Of the result.</param>
/// <param name="OperandType">Of A and B where they differ from the result's (conversions, comparisons); otherwise as <paramref name="Type"/>.</param>
/// <param name="A">The first operand: the number of an earlier instruction.</param>
/// <param name="B">The second.</param>
/// <param name="C">The third.</param>
/// <param name="Immediate">A constant, by <paramref name="Op"/>.</param>
internal readonly record struct ProgramInstruction(ProgramOp Op, ProgramType Type, ProgramType OperandType, int A, int B, int C, ulong Immediate);
