namespace FastTrap.Programs;

/// <summary>
/// What to do at a hit, as data: a row of instructions without jumps, so it ends after as many steps as it has instructions; a filter; and the values that go out. Immutable, verified when it is made.
/// </summary>
/// <remarks>
/// A value can be invalid: memory that cannot be read, a division by zero. Whatever is made of it is invalid, too, but what <see cref="ProgramOp.Select"/> did not choose. A filter that is invalid
/// does not pass. So reading a bad pointer never faults, and a guard (<c>p != 0 &amp;&amp; Read(p) > 5</c>) means what it says though both sides are computed.
/// </remarks>
internal sealed class ProbeProgram
{
    /// <summary>Most instructions of a program.</summary>
    public const int MaximumLength = 512;

    /// <summary>Most values that go out.</summary>
    public const int MaximumOutputs = 64;

    private readonly ProgramInstruction[] _instructions;
    private readonly int[] _outputs;

    public ProbeProgram(IEnumerable<ProgramInstruction> instructions, int? filter, IEnumerable<int> outputs)
    {
        _instructions = [.. instructions];
        _outputs = [.. outputs];
        Filter = filter;
        Verify();
    }

    public ReadOnlySpan<ProgramInstruction> Instructions => _instructions;

    /// <summary>The Boolean which decides whether the hit counts; null: always.</summary>
    public int? Filter { get; }

    public ReadOnlySpan<int> Outputs => _outputs;

    private void Verify()
    {
        Require(_instructions.Length <= MaximumLength, $"it has {_instructions.Length} instructions; {MaximumLength} is the most");
        Require(_outputs.Length <= MaximumOutputs, $"it gives out {_outputs.Length} values; {MaximumOutputs} is the most");
        for (int i = 0; i < _instructions.Length; i++)
        {
            VerifyInstruction(i, _instructions[i]);
        }

        Require(Filter is not { } filter || (IsIndex(filter) && _instructions[filter].Type == ProgramType.Boolean), "its filter is no Boolean");
        Require(Array.TrueForAll(_outputs, IsIndex), "an output is no value");
    }

    private void VerifyInstruction(int index, in ProgramInstruction instruction)
    {
        (ProgramOp op, ProgramType type, ProgramType operand, int a, int b, int c, ulong immediate) = instruction;
        switch (op)
        {
            case ProgramOp.Constant:
                break;
            case ProgramOp.Argument:
                Require(type == ProgramType.UInt64 && immediate < 64, $"instruction {index} is no argument");
                break;
            case ProgramOp.ReturnValue or ProgramOp.ProgramCounter:
                Require(type == ProgramType.UInt64, $"instruction {index} has a wrong type");
                break;
            case ProgramOp.ThreadId or ProgramOp.ProcessId:
                Require(type == ProgramType.Int32, $"instruction {index} has a wrong type");
                break;
            case ProgramOp.TimestampNs:
                Require(type == ProgramType.Int64, $"instruction {index} has a wrong type");
                break;
            case ProgramOp.Load:
                RequireOperand(index, a, ProgramType.UInt64);
                Require((immediate & 15) is 1 or 2 or 4 or 8 && immediate < 32, $"instruction {index} loads a wrong length");
                break;
            case ProgramOp.Narrow:
                RequireOperand(index, a, type);
                Require((immediate & 15) is 1 or 2 && immediate < 32, $"instruction {index} narrows to a wrong length");
                break;
            case ProgramOp.Convert:
                RequireOperand(index, a, operand);
                Require((type == ProgramType.Boolean) == (operand == ProgramType.Boolean), $"instruction {index} converts a Boolean");
                break;
            case ProgramOp.Negate:
                RequireOperand(index, a, type);
                Require(type != ProgramType.Boolean, $"instruction {index} negates a Boolean");
                break;
            case ProgramOp.Not:
                RequireOperand(index, a, type);
                Require(type != ProgramType.Double, $"instruction {index} inverts a double");
                break;
            case ProgramOp.Add or ProgramOp.Subtract or ProgramOp.Multiply or ProgramOp.Divide or ProgramOp.Remainder:
                RequireOperand(index, a, type);
                RequireOperand(index, b, type);
                Require(type != ProgramType.Boolean, $"instruction {index} calculates with Booleans");
                break;
            case ProgramOp.And or ProgramOp.Or or ProgramOp.Xor:
                RequireOperand(index, a, type);
                RequireOperand(index, b, type);
                Require(type != ProgramType.Double, $"instruction {index} combines bits of doubles");
                break;
            case ProgramOp.ShiftLeft or ProgramOp.ShiftRight:
                RequireOperand(index, a, type);
                RequireOperand(index, b, ProgramType.Int32);
                Require(type is not ProgramType.Double and not ProgramType.Boolean, $"instruction {index} shifts no integer");
                break;
            case ProgramOp.Equal or ProgramOp.Less or ProgramOp.LessOrEqual:
                RequireOperand(index, a, operand);
                RequireOperand(index, b, operand);
                Require(type == ProgramType.Boolean, $"instruction {index} has a wrong type");
                break;
            case ProgramOp.Select:
                RequireOperand(index, a, ProgramType.Boolean);
                RequireOperand(index, b, type);
                RequireOperand(index, c, type);
                break;
            default:
                Require(false, $"instruction {index} has no known operation");
                break;
        }
    }

    private void RequireOperand(int index, int operand, ProgramType type) => Require(
        (uint)operand < (uint)index && _instructions[operand].Type == type, $"instruction {index} uses a value which is not there, or of another type");

    private bool IsIndex(int index) => (uint)index < (uint)_instructions.Length;

    private static void Require(bool condition, string problem)
    {
        if (!condition)
        {
            throw new ArgumentException($"The probe program is not valid: {problem}.");
        }
    }
}
