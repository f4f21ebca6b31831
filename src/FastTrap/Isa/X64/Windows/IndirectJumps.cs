using System.Buffers.Binary;
using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>
/// Says where indirect jumps lead. One through a pointer leads to an address that was taken somewhere, which is a target already; one whose address is
/// computed is understood if it is a table's: <c>movslq (table,index,4), r; add table, r; jmp *r</c>.
/// </summary>
/// <remarks>
/// Which of a function's tables a jump uses does not matter: every address of data that a function with an indirect jump takes is read as a table, as long as
/// its entries lead into the function. So tables need no proven bound, and one that was kept in another register or on the stack is found as well.
/// </remarks>
internal sealed class IndirectJumps(CodeFlowBuilder code, CodeDataReader readData)
{
    private const int MaxSteps = 4096;
    private const int MaxEntries = 1 << 16;
    private const int ChunkEntries = 64;
    private const int MaxLabels = 16;

    private readonly HashSet<(int From, int To)> _edges = [];
    private readonly HashSet<int> _withTables = [];
    private readonly Dictionary<int, List<int>> _sources = [];
    private readonly List<int> _unitJumps = [];
    private readonly X64ShapeDecoder _shapes = new();
    private HashSet<ulong> _tableStarts = [];
    private int _flowUnit = -1;
    private int _displacement;
    private int _bound;

    private enum Origin
    {
        Pointer,
        Table,
        Unknown,
    }

    /// <summary>How many jumps are not understood.</summary>
    public int UnknownCount { get; private set; }

    public void Resolve(List<(int Unit, ulong Address)> tables, List<(int Unit, int Offset)> jumps, List<(int Unit, int Target)> branches)
    {
        foreach ((int unit, int target) in branches)
        {
            int other = code.FindUnit(target);
            bool isPart = other >= 0 && (code.UnitIsPart[unit] || code.UnitIsPart[other] || target != code.UnitStarts[other]);
            if (isPart && other != unit)
            {
                _edges.Add((unit, other));
            }
        }

        // How each jump is made tells displacements and bounds of the tables.
        Dictionary<int, (int Displacement, int Bound)> hints = [];
        List<(int Unit, Origin Origin)> origins = new(jumps.Count);
        foreach ((int unit, int offset) in jumps)
        {
            Origin origin = Judge(unit, offset, out int displacement, out int bound);
            origins.Add((unit, origin));
            if (origin == Origin.Table)
            {
                (int known, int knownBound) = hints.GetValueOrDefault(unit);
                hints[unit] = (displacement != 0 ? displacement : known, Math.Max(bound, knownBound));
            }
        }

        _tableStarts = [.. tables.Select(t => t.Address)];
        foreach (IGrouping<int, ulong> addresses in tables.Distinct().ToLookup(t => t.Unit, t => t.Address))
        {
            ReadTables(addresses.Key, [.. addresses], hints.GetValueOrDefault(addresses.Key));
        }

        HashSet<int> unknown = [];
        foreach ((int unit, Origin origin) in origins)
        {
            if (origin == Origin.Unknown || (origin == Origin.Table && !_withTables.Contains(unit)))
            {
                UnknownCount++;
                unknown.Add(unit);
            }
        }

        MarkUnknown(unknown);
    }

    private void ReadTables(int unit, ulong[] addresses, (int Displacement, int Bound) hint)
    {
        ulong[] labels = Array.FindAll(addresses, a => IsInstruction(a) && code.FindUnit((int)(a - code.Address)) == unit);
        foreach (ulong address in addresses)
        {
            bool found = ReadTable(unit, address, address, hint.Bound);
            if (hint.Displacement != 0)
            {
                found |= ReadTable(unit, address, unchecked(address + (ulong)hint.Displacement), hint.Bound);
            }

            // Tables that a program makes itself count from a label.
            for (int i = 0; i < labels.Length && labels.Length <= MaxLabels && !found; i++)
            {
                ReadTable(unit, labels[i], address, hint.Bound);
            }
        }
    }

    private void MarkUnknown(HashSet<int> units)
    {
        foreach (int unit in units)
        {
            (int first, int last) = code.GetFunctionUnits(unit);
            for (int part = first; part <= last; part++)
            {
                code.UnitTraits[part] |= CodeTraits.HasUnknownTargets;
            }
        }

        foreach ((int from, int to) in _edges)
        {
            if (units.Contains(from) || units.Contains(to))
            {
                code.UnitTraits[from] |= CodeTraits.HasUnknownTargets;
                code.UnitTraits[to] |= CodeTraits.HasUnknownTargets;
            }
        }
    }

    /// <summary>
    /// Marks the entries of a table as targets: as many as lead into the function, or as a comparison allows, and no further than where the next table begins.
    /// </summary>
    private bool ReadTable(int unit, ulong origin, ulong first, int bound)
    {
        if (first - code.Address < (ulong)code.Length && code.Starts[(int)(first - code.Address)])
        {
            // An address of code.
            return false;
        }

        Span<byte> chunk = stackalloc byte[ChunkEntries * sizeof(int)];
        int count = 0;
        while (count < MaxEntries)
        {
            int read = readData(first + (ulong)(count * sizeof(int)), chunk) / sizeof(int);
            for (int i = 0; i < read; i++, count++)
            {
                ulong at = first + (ulong)(count * sizeof(int));
                ulong target = unchecked(origin + (ulong)BinaryPrimitives.ReadInt32LittleEndian(chunk[(i * sizeof(int))..]));
                bool isInFunction = IsInFunction(unit, target);
                if ((count > 0 && _tableStarts.Contains(at)) || !(isInFunction || (count > 0 && count < bound)))
                {
                    return Finish(unit, count);
                }

                if (isInFunction || IsInstruction(target))
                {
                    code.AddTarget(target);
                }
            }

            if (read < ChunkEntries)
            {
                break;
            }
        }

        return Finish(unit, count);
    }

    private bool Finish(int unit, int count)
    {
        if (count > 0)
        {
            code.JumpTables++;
            _withTables.Add(unit);
        }

        return count > 0;
    }

    /// <summary>A split-off part may be reached by nothing but the table.</summary>
    private bool IsInstruction(ulong target) => target - code.Address < (ulong)code.Length && code.Starts[(int)(target - code.Address)];

    private bool IsInFunction(int unit, ulong target)
    {
        if (target - code.Address > (ulong)code.Length)
        {
            return false;
        }

        int offset = (int)(target - code.Address);

        // A case that cannot happen may lead behind the function's end.
        if (offset == code.UnitEnds[unit])
        {
            return true;
        }

        int other = code.FindUnit(offset);
        return other >= 0 && code.Starts[offset] && (other == unit || code.AreOneFunction(unit, other) || _edges.Contains((unit, other)) || _edges.Contains((other, unit)));
    }

    private Origin Judge(int unit, int offset, out int displacement, out int bound)
    {
        displacement = bound = _displacement = _bound = 0;
        Instruction jump = Decode(offset);
        if (jump.Op0Kind == OpKind.Memory)
        {
            // A pointer in memory: an address that was taken.
            return Origin.Pointer;
        }

        if (jump.Op0Kind != OpKind.Register)
        {
            return Origin.Unknown;
        }

        if (_flowUnit != unit)
        {
            CollectBranches(unit);
        }

        Origin origin = Trace(offset, jump.Op0Register, false);
        displacement = _displacement;
        bound = _bound;
        return origin;
    }

    /// <summary>Which branches lead where within a unit.</summary>
    private unsafe void CollectBranches(int unit)
    {
        _flowUnit = unit;
        _sources.Clear();
        _unitJumps.Clear();
        fixed (byte* bytes = code.Code)
        {
            int end = code.UnitEnds[unit];
            for (int at = code.Starts.Next(code.UnitStarts[unit], end); at < end; at = code.Starts.Next(at + 1, end))
            {
                _shapes.Decode(bytes + at, out X64Shape shape);
                if (shape.Flow == X64Flow.IndirectJump)
                {
                    _unitJumps.Add(at);
                }
                else if (shape.Flow is X64Flow.Branch or X64Flow.Jump)
                {
                    int next = at + shape.Length;
                    int target = next + (shape.RelativeLength == 1 ? *(sbyte*)(bytes + next - 1) : *(int*)(bytes + next - sizeof(int)));
                    if (!_sources.TryGetValue(target, out List<int>? list))
                    {
                        _sources.Add(target, list = []);
                    }

                    list.Add(at);
                }
            }
        }
    }

    /// <summary>
    /// Goes back from an instruction, on all ways that lead to it, to where a register was set. With <paramref name="isEntry"/> it is one of two that were
    /// added up, and what is looked for is the load of a table's entry.
    /// </summary>
    private Origin Trace(int offset, Register register, bool isEntry)
    {
        Stack<(int At, Register Register)> open = new();
        HashSet<(int At, Register Register)> seen = [];
        Origin worst = PushBefore(offset, register, open, isEntry);
        while (worst != Origin.Unknown && open.TryPop(out (int At, Register Register) next))
        {
            if (!seen.Add(next))
            {
                continue;
            }

            if (seen.Count > MaxSteps)
            {
                return Origin.Unknown;
            }

            Instruction instruction = Decode(next.At);
            if (instruction.IsCallNear || instruction.IsCallNearIndirect)
            {
                bool isKept = next.Register is Register.RBX or Register.RBP or Register.R12 or Register.R13 or Register.R14 or Register.R15;
                worst = Worse(worst, isKept ? PushBefore(next.At, next.Register, open, isEntry) : isEntry ? Origin.Unknown : Origin.Pointer);
            }
            else if (!Writes(instruction, next.Register))
            {
                worst = Worse(worst, PushBefore(next.At, next.Register, open, isEntry));
            }
            else
            {
                worst = Worse(worst, isEntry ? SeeEntry(instruction, next.At, next.Register, open) : SeePointer(instruction, next.At, next.Register, open));
            }
        }

        return worst;
    }

    /// <summary>Adds all instructions from which control comes to one. Unknown if there are none, and the function does not begin there.</summary>
    private Origin PushBefore(int offset, Register register, Stack<(int At, Register Register)> open, bool isEntry)
    {
        int start = code.UnitStarts[_flowUnit];

        // As it was when the function was called.
        bool any = offset == start && !isEntry;
        int before = code.Starts.Previous(start, offset);
        if (before >= 0 && !code.Padding[before] && !Ends(before))
        {
            any = true;
            open.Push((before, register));
        }

        // What no branch leads to is a case of a switch.
        List<int>? sources = _sources.GetValueOrDefault(offset) ?? (any ? null : _unitJumps);
        foreach (int source in sources ?? [])
        {
            any = true;
            open.Push((source, register));
        }

        return !any ? Origin.Unknown : isEntry ? Origin.Table : Origin.Pointer;
    }

    private Origin SeePointer(in Instruction instruction, int at, Register register, Stack<(int At, Register Register)> open)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Mov when instruction.Op1Kind == OpKind.Register:
                return instruction.Op1Register.IsGPR64() ? PushBefore(at, instruction.Op1Register, open, false) : Origin.Unknown;
            case Mnemonic.Mov or Mnemonic.Pop:
                return Origin.Pointer;
            case Mnemonic.Lea when instruction.IsIPRelativeMemoryOperand:
                return Origin.Pointer;
            case Mnemonic.Lea when instruction.MemoryIndexScale == 1 && instruction.MemoryBase != Register.None
                && instruction.MemoryIndex != Register.None && instruction.MemoryDisplacement64 == 0:
                return TraceSum(at, instruction.MemoryBase, instruction.MemoryIndex);
            case Mnemonic.Add:
                return TraceSum(at, register, instruction.Op1Kind == OpKind.Register ? instruction.Op1Register : Register.None);
            case Mnemonic.Cmove or Mnemonic.Cmovne or Mnemonic.Cmova or Mnemonic.Cmovae or Mnemonic.Cmovb or Mnemonic.Cmovbe
                or Mnemonic.Cmovg or Mnemonic.Cmovge or Mnemonic.Cmovl or Mnemonic.Cmovle or Mnemonic.Cmovs or Mnemonic.Cmovns:
                Origin chosen = instruction.Op1Kind == OpKind.Register ? PushBefore(at, instruction.Op1Register, open, false) : Origin.Pointer;
                return Worse(chosen, PushBefore(at, register, open, false));

            // How C libraries hide pointers.
            case Mnemonic.Ror or Mnemonic.Rol or Mnemonic.Xor:
                return PushBefore(at, register, open, false);
            default:
                return Origin.Unknown;
        }
    }

    /// <summary>One of the two must come from a table's entry.</summary>
    private Origin TraceSum(int at, Register first, Register second)
    {
        return Trace(at, first, true) == Origin.Table || (second != Register.None && Trace(at, second, true) == Origin.Table)
            ? Origin.Table
            : Origin.Unknown;
    }

    private Origin SeeEntry(in Instruction instruction, int at, Register register, Stack<(int At, Register Register)> open)
    {
        switch (instruction.Mnemonic)
        {
            // It was loaded before, and is widened here.
            case Mnemonic.Cdqe:
                return PushBefore(at, register, open, true);
            case Mnemonic.Movsxd when instruction.Op1Kind == OpKind.Register:
                return PushBefore(at, instruction.Op1Register.GetFullRegister(), open, true);

            // With a known index the entry's own address is the operand.
            case Mnemonic.Movsxd:
            case Mnemonic.Mov when instruction.Op1Kind == OpKind.Memory && instruction.Op0Register.IsGPR32()
                && instruction.MemoryIndex != Register.None:
                _displacement = instruction.MemoryIndex == Register.None ? 0 : (int)instruction.MemoryDisplacement64;
                _bound = FindBound(_flowUnit, at);
                return Origin.Table;
            default:
                return Origin.Unknown;
        }
    }

    private static Origin Worse(Origin one, Origin other) => one > other ? one : other;

    private unsafe bool Ends(int offset)
    {
        fixed (byte* bytes = code.Code)
        {
            _shapes.Decode(bytes + offset, out X64Shape shape);
            return shape.EndsFlow;
        }
    }

    private int FindBound(int unit, int offset)
    {
        int at = offset;
        for (int steps = 16; steps > 0; steps--)
        {
            at = code.Starts.Previous(code.UnitStarts[unit], at);
            if (at < 0)
            {
                return 0;
            }

            Instruction instruction = Decode(at);
            if (instruction.Mnemonic == Mnemonic.Cmp && instruction.Op1Kind is not (OpKind.Register or OpKind.Memory))
            {
                ulong last = instruction.GetImmediate(1);
                return last < MaxEntries ? (int)last + 1 : 0;
            }
        }

        return 0;
    }

    /// <summary>Whether an instruction sets a register, as far as compilers use it; loads of pairs and the like count as that.</summary>
    private static bool Writes(in Instruction instruction, Register register)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Cmp or Mnemonic.Test or Mnemonic.Push or Mnemonic.Bt:
                return false;
            case Mnemonic.Cdqe or Mnemonic.Cwde or Mnemonic.Cbw:
                return register == Register.RAX;
            case Mnemonic.Div or Mnemonic.Idiv or Mnemonic.Mul or Mnemonic.Cqo or Mnemonic.Cdq or Mnemonic.Cpuid or Mnemonic.Rdtsc:
                return register is Register.RAX or Register.RDX;
            case Mnemonic.Xchg or Mnemonic.Xadd:
                return (instruction.Op0Kind == OpKind.Register && instruction.Op0Register.GetFullRegister() == register)
                    || (instruction.Op1Kind == OpKind.Register && instruction.Op1Register.GetFullRegister() == register);
            default:
                return instruction.OpCount > 0 && instruction.Op0Kind == OpKind.Register && instruction.Op0Register.GetFullRegister() == register;
        }
    }

    private unsafe Instruction Decode(int offset)
    {
        fixed (byte* bytes = code.Code)
        {
            X64Decoding decoding = X64Decoding.Current;
            decoding.Start(bytes + offset, X64Classifier.MaxInstructionLength, code.Address + (ulong)offset);
            decoding.Decode(out Instruction instruction);
            return instruction;
        }
    }
}
