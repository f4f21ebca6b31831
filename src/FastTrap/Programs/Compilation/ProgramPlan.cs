using FastTrap.Usdt;

namespace FastTrap.Programs.Compilation;

/// <summary>
/// In which order the values of a program are computed (those of the filter first, unused ones never), where each is kept, and which can be invalid. The same for all architectures.
/// </summary>
internal sealed class ProgramPlan
{
    private const int NoSlot = -1;

    private readonly ProbeProgram _program;
    private readonly ArgumentSources _sources;
    private readonly bool[] _isLive;
    private readonly int[] _uses;
    private readonly int[] _slots;
    private readonly int[] _validity;

    public ProgramPlan(ProbeProgram program, ProgramAction action, ArgumentSources sources)
    {
        _program = program;
        _sources = sources;
        int count = program.Instructions.Length;
        _isLive = new bool[count];
        _uses = new int[count];
        _slots = new int[count];
        _validity = new int[count];
        Array.Fill(_slots, NoSlot);
        Array.Fill(_validity, NoSlot);

        List<int> order = [];
        if (program.Filter is { } filter)
        {
            AddLive(filter, order);
            _uses[filter]++;
        }

        order.Sort();
        FilterLength = order.Count;
        Outputs = [.. program.Outputs[..(action.OutputCount ?? program.Outputs.Length)]];
        List<int> rest = [];
        foreach (int output in Outputs)
        {
            AddLive(output, rest);

            // Outputs are taken when all is computed, and more than once.
            _uses[output] += 2;
        }

        rest.Sort();
        order.AddRange(rest);
        Order = [.. order];
        FindValidity();
        AssignSlots();
    }

    /// <summary>The instructions to execute, in order.</summary>
    public int[] Order { get; }

    /// <summary>How many of them the filter needs.</summary>
    public int FilterLength { get; }

    /// <summary>The outputs which the action uses.</summary>
    public int[] Outputs { get; }

    /// <summary>Words for values.</summary>
    public int SlotCount { get; private set; }

    /// <summary>Bytes for whether values are valid.</summary>
    public int ValidityCount { get; private set; }

    /// <summary>Whether any output can be invalid.</summary>
    public bool HasInvalidOutputs => Array.Exists(Outputs, CanBeInvalid);

    /// <summary>The word of a value.</summary>
    public int SlotOf(int value) => _slots[value];

    /// <summary>The byte which says whether a value is valid; values share it where the one is invalid because of the other.</summary>
    public int ValidityOf(int value) => _validity[value];

    public bool CanBeInvalid(int value) => _validity[value] != NoSlot;

    public int UsesOf(int value) => _uses[value];

    /// <summary>Whether the value is computed whenever it is used, rather than kept.</summary>
    public bool IsImmediate(int value)
    {
        ref readonly ProgramInstruction instruction = ref _program.Instructions[value];
        return instruction.Op switch
        {
            ProgramOp.Constant or ProgramOp.ReturnValue or ProgramOp.ProcessId or ProgramOp.ProgramCounter => true,
            ProgramOp.Argument => IsImmediateArgument((int)instruction.Immediate),
            _ => false,
        };
    }

    /// <summary>Operands in the order in which code loads them; the second is missing for unary operations, the third but for selections.</summary>
    public static (int A, int B, int C) OperandsOf(in ProgramInstruction instruction) => instruction.Op switch
    {
        ProgramOp.Constant or ProgramOp.Argument or ProgramOp.ReturnValue or ProgramOp.ThreadId or ProgramOp.ProcessId or ProgramOp.TimestampNs or ProgramOp.ProgramCounter => (-1, -1, -1),
        ProgramOp.Load or ProgramOp.Narrow or ProgramOp.Convert or ProgramOp.Negate or ProgramOp.Not => (instruction.A, -1, -1),
        ProgramOp.Select => (instruction.A, instruction.B, instruction.C),
        _ => (instruction.A, instruction.B, -1),
    };

    /// <summary>Whether an operation by itself, with valid operands, can have no value.</summary>
    public bool CanFail(int value)
    {
        ref readonly ProgramInstruction instruction = ref _program.Instructions[value];
        return instruction.Op switch
        {
            ProgramOp.Load => true,
            ProgramOp.Argument => !IsImmediateArgument((int)instruction.Immediate) && _sources[(int)instruction.Immediate] is not { Operand.Kind: UsdtOperandKind.Vector or UsdtOperandKind.Register or UsdtOperandKind.Constant },
            ProgramOp.Divide or ProgramOp.Remainder => instruction.Type != ProgramType.Double,
            ProgramOp.Convert => instruction.OperandType == ProgramType.Double && instruction.Type != ProgramType.Double,
            _ => false,
        };
    }

    /// <summary>Whether an argument is a whole register, a constant, or the site's offset.</summary>
    private bool IsImmediateArgument(int index) =>
        (_sources.IsReturn && index == 0)
        || _sources[index] is { Kind: not ArgumentKind.Floating, Size: >= 8, Operand: { Kind: UsdtOperandKind.Register, Width: 8, Shift: 0 } };

    private void AddLive(int value, List<int> order)
    {
        if (_isLive[value])
        {
            return;
        }

        _isLive[value] = true;
        (int a, int b, int c) = OperandsOf(_program.Instructions[value]);
        ReadOnlySpan<int> operands = [a, b, c];
        foreach (int operand in operands)
        {
            if (operand >= 0)
            {
                AddLive(operand, order);
                _uses[operand]++;
            }
        }

        order.Add(value);
    }

    private void FindValidity()
    {
        foreach (int value in Order)
        {
            (int a, int b, int c) = OperandsOf(_program.Instructions[value]);
            ReadOnlySpan<int> operands = [a, b, c];
            int found = NoSlot;
            bool isOwn = CanFail(value);
            foreach (int operand in operands)
            {
                if (operand >= 0 && _validity[operand] is int own and >= 0)
                {
                    isOwn |= (found >= 0 && found != own) || (c >= 0 && operand != a);
                    found = own;
                }
            }

            _validity[value] = isOwn ? ValidityCount++ : found;
        }
    }

    /// <summary>A word is used again when the value in it is not needed any more.</summary>
    private void AssignSlots()
    {
        int[] last = new int[_slots.Length];
        for (int i = 0; i < Order.Length; i++)
        {
            (int a, int b, int c) = OperandsOf(_program.Instructions[Order[i]]);
            ReadOnlySpan<int> operands = [a, b, c];
            foreach (int operand in operands)
            {
                if (operand >= 0)
                {
                    last[operand] = i;
                }
            }
        }

        if (_program.Filter is { } filter)
        {
            last[filter] = Math.Max(last[filter], FilterLength);
        }

        foreach (int output in Outputs)
        {
            last[output] = int.MaxValue;
        }

        PriorityQueue<int, int> busy = new();
        Stack<int> free = new();
        for (int i = 0; i < Order.Length; i++)
        {
            // A slot is free for the instructions behind its last use.
            while (busy.TryPeek(out int slot, out int until) && until < i)
            {
                busy.Dequeue();
                free.Push(slot);
            }

            int value = Order[i];
            if (!IsImmediate(value))
            {
                _slots[value] = free.TryPop(out int slot) ? slot : SlotCount++;
                busy.Enqueue(_slots[value], last[value]);
            }
        }
    }
}
