namespace FastTrap.Programs;

/// <summary>Puts a probe program together, instruction by instruction; an instruction that is there already is used again.</summary>
internal sealed class ProgramBuilder
{
    private readonly List<ProgramInstruction> _instructions = [];
    private readonly Dictionary<ProgramInstruction, int> _known = [];
    private readonly List<int> _outputs = [];
    private int? _filter;

    public ProgramType TypeOf(int value) => _instructions[value].Type;

    public int Constant(ProgramType type, ulong bits) => Add(new ProgramInstruction(ProgramOp.Constant, type, type, 0, 0, 0, bits));

    /// <summary>A value that comes with the hit.</summary>
    public int Input(ProgramOp op, ProgramType type, ulong immediate = 0) => Add(new ProgramInstruction(op, type, type, 0, 0, 0, immediate));

    /// <summary>Target memory of 1, 2, 4 or 8 bytes.</summary>
    public int Load(ProgramType type, int address, int length, bool isSigned) =>
        Add(new ProgramInstruction(ProgramOp.Load, type, ProgramType.UInt64, address, 0, 0, (ulong)(length + (isSigned ? 16 : 0))));

    public int Narrow(int value, int length, bool isSigned) =>
        Add(new ProgramInstruction(ProgramOp.Narrow, TypeOf(value), TypeOf(value), value, 0, 0, (ulong)(length + (isSigned ? 16 : 0))));

    public int Convert(int value, ProgramType type) =>
        TypeOf(value) == type ? value : Add(new ProgramInstruction(ProgramOp.Convert, type, TypeOf(value), value, 0, 0, 0));

    public int Unary(ProgramOp op, int value) => Add(new ProgramInstruction(op, TypeOf(value), TypeOf(value), value, 0, 0, 0));

    public int Binary(ProgramOp op, int a, int b) => Add(new ProgramInstruction(
        op, op is ProgramOp.Equal or ProgramOp.Less or ProgramOp.LessOrEqual ? ProgramType.Boolean : TypeOf(a), TypeOf(a), a, b, 0, 0));

    public int Select(int condition, int whenTrue, int whenFalse) =>
        Add(new ProgramInstruction(ProgramOp.Select, TypeOf(whenTrue), TypeOf(whenTrue), condition, whenTrue, whenFalse, 0));

    /// <summary>One more condition for the hit to count.</summary>
    public void Filter(int condition) =>
        _filter = _filter is { } filter ? Select(filter, condition, Constant(ProgramType.Boolean, 0)) : condition;

    /// <summary>Gives a value out; returns the number of the output.</summary>
    public int Output(int value)
    {
        int known = _outputs.IndexOf(value);
        if (known < 0)
        {
            known = _outputs.Count;
            _outputs.Add(value);
        }

        return known;
    }

    /// <exception cref="ArgumentException">It is too long.</exception>
    public ProbeProgram Build() => new(_instructions, _filter, _outputs);

    private int Add(in ProgramInstruction instruction)
    {
        if (!_known.TryGetValue(instruction, out int number))
        {
            number = _instructions.Count;
            _instructions.Add(instruction);
            _known.Add(instruction, number);
        }

        return number;
    }
}
