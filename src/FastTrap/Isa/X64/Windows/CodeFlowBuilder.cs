using System.Numerics;
using System.Runtime.CompilerServices;

namespace FastTrap.Isa.X64;

/// <summary>Makes a <see cref="CodeFlow"/>: one sweep over all functions, then what the sweep left open. One thread, once.</summary>
internal sealed class CodeFlowBuilder
{
    private readonly CodeDataReader _readData;
    private readonly bool _isAbsolute;
    private readonly X64ShapeDecoder _shapes = new();
    private readonly List<(int Unit, int Target)> _edges = [];
    private readonly List<int> _dataReferences = [];
    private readonly List<int> _takenAddresses = [];
    private readonly List<int> _immediates = [];
    private readonly List<ulong> _unitTables = [];
    private readonly List<(int Unit, ulong Address)> _tables = [];
    private readonly List<(int Unit, int Offset)> _indirectJumps = [];
    private readonly List<(int Start, int End)> _gaps = [];
    private readonly List<int> _components = [];
    private bool _afterStop;

    public CodeFlowBuilder(ReadOnlySpan<byte> code, ulong address, bool isAbsolute, CodeDataReader readData)
    {
        Code = new byte[code.Length + X64ShapeDecoder.Lookahead];
        code.CopyTo(Code);
        Address = address;
        Length = code.Length;
        Starts = new CodeBits(Length);
        Targets = new CodeBits(Length);
        Padding = new CodeBits(Length);
        _readData = readData;
        _isAbsolute = isAbsolute;
    }

    /// <summary>The code, and zeros behind it.</summary>
    public byte[] Code { get; }

    public ulong Address { get; }

    public int Length { get; }

    public CodeBits Starts { get; }

    public CodeBits Targets { get; }

    public CodeBits Padding { get; }

    public List<int> UnitStarts { get; } = [];

    public List<int> UnitEnds { get; } = [];

    public List<CodeTraits> UnitTraits { get; } = [];

    /// <summary>Whether a unit was split off another function.</summary>
    public List<bool> UnitIsPart { get; } = [];

    public int UnknownJumps { get; private set; }

    public int JumpTables { get; set; }

    public void AddTargets(ReadOnlySpan<ulong> targets)
    {
        foreach (ulong target in targets)
        {
            AddTarget(target);
        }
    }

    /// <summary>Marks a target, if it is inside.</summary>
    public void AddTarget(ulong address)
    {
        if (address - Address < (ulong)Length)
        {
            Targets.Set((int)(address - Address));
        }
    }

    /// <summary>
    /// Cuts the code into units, at each start of a function. What belongs to a function that lies around others is swept with the one before it.
    /// </summary>
    public void AddFunctions(ReadOnlySpan<CodeRange> functions)
    {
        CodeRange[] sorted = functions.ToArray();
        ulong[] starts = Array.ConvertAll(sorted, f => f.Start);
        Array.Sort(starts, sorted);
        ulong covered = 0;
        ulong end = Address + (ulong)Length;
        int component = 0;
        bool isPart = false;
        for (int i = 0; i < sorted.Length; i++)
        {
            ulong start = sorted[i].Start;
            if (start - Address >= (ulong)Length)
            {
                continue;
            }

            isPart |= sorted[i].IsPart;
            component = start >= covered ? UnitStarts.Count : component;
            covered = Math.Max(covered, Math.Min(end, unchecked(start + Math.Min(sorted[i].Length, end - start))));
            Targets.Set((int)(start - Address));
            ulong next = i + 1 < sorted.Length ? Math.Min(sorted[i + 1].Start, end) : end;
            if (next == start)
            {
                continue;
            }

            ulong unitEnd = Math.Min(covered, next);
            if (unitEnd > start)
            {
                UnitStarts.Add((int)(start - Address));
                UnitEnds.Add((int)(unitEnd - Address));
                UnitTraits.Add(CodeTraits.None);
                UnitIsPart.Add(isPart);
                _components.Add(component);
            }

            isPart = false;
        }
    }

    /// <summary>Decodes everything once.</summary>
    public unsafe void Sweep()
    {
        fixed (byte* code = Code)
        {
            int covered = 0;
            _afterStop = false;
            for (int unit = 0; unit < UnitStarts.Count; unit++)
            {
                if (UnitStarts[unit] > covered)
                {
                    SweepGap(code, covered, UnitStarts[unit]);
                }

                _unitTables.Clear();
                int jumps = _indirectJumps.Count;
                if (!SweepUnit(code, unit, UnitStarts[unit], UnitEnds[unit], true))
                {
                    UnitTraits[unit] |= CodeTraits.NotDecodable;
                }

                if (_indirectJumps.Count > jumps)
                {
                    foreach (ulong table in _unitTables)
                    {
                        _tables.Add((unit, table));
                    }
                }

                covered = UnitEnds[unit];
            }

            if (covered < Length)
            {
                SweepGap(code, covered, Length);
            }
        }
    }

    /// <summary>Reads jump tables, judges indirect jumps, and finds functions which hold more than instructions.</summary>
    public void Resolve()
    {
        foreach (int offset in _immediates)
        {
            if (Starts[offset])
            {
                Targets.Set(offset);
            }
        }

        foreach (int offset in _dataReferences)
        {
            MarkData(offset);
        }

        IndirectJumps jumps = new(this, _readData);
        jumps.Resolve(_tables, _indirectJumps, _edges);
        UnknownJumps = jumps.UnknownCount;
        MarkOverlaps();
    }

    /// <summary>The unit that contains an offset, or -1.</summary>
    public int FindUnit(int offset)
    {
        int index = UnitStarts.BinarySearch(offset);
        index = index < 0 ? ~index - 1 : index;
        return index >= 0 && offset < UnitEnds[index] ? index : -1;
    }

    /// <summary>Whether two units lie in functions that overlap.</summary>
    public bool AreOneFunction(int unit, int other) => _components[unit] == _components[other];

    /// <summary>The first and last of the units which lie in functions that overlap with a unit's.</summary>
    public (int First, int Last) GetFunctionUnits(int unit)
    {
        int last = unit;
        while (last + 1 < _components.Count && _components[last + 1] == _components[unit])
        {
            last++;
        }

        return (_components[unit], last);
    }

    /// <summary>Decodes from <paramref name="at"/> on. False if not all of it is one row of instructions.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private unsafe bool SweepUnit(byte* code, int unit, int at, int end, bool isFunction)
    {
        bool isWhole = true;
        bool afterStop = false;
        while (at < end)
        {
            _shapes.Decode(code + at, out X64Shape shape);
            if (shape.Flow == X64Flow.Bad || at + shape.Length > end)
            {
                // What follows is swept all the same: its branches count.
                isWhole = false;
                at++;
                continue;
            }

            int next = at + shape.Length;
            if (isFunction)
            {
                Starts.Set(at);
            }

            if (afterStop)
            {
                if (shape.Flow == X64Flow.Filler && isFunction)
                {
                    Padding.SetRange(at, next);
                    at = next;
                    continue;
                }

                // Something must lead here, though it was not seen.
                Targets.Set(at);
                afterStop = false;
            }

            switch (shape.Flow)
            {
                case X64Flow.Next or X64Flow.Filler:
                    break;
                case X64Flow.BranchTarget:
                    Targets.Set(at);
                    break;
                case X64Flow.Call:
                    if (next < Length)
                    {
                        Targets.Set(next);
                    }

                    AddBranch(code, unit, next, shape.RelativeLength, true, end);
                    break;
                case X64Flow.IndirectCall:
                    if (next < Length)
                    {
                        Targets.Set(next);
                    }

                    break;
                case X64Flow.Branch:
                    AddBranch(code, unit, next, shape.RelativeLength, false, end);
                    break;
                case X64Flow.Jump:
                    AddBranch(code, unit, next, shape.RelativeLength, false, end);
                    afterStop = true;
                    break;
                case X64Flow.IndirectJump:
                    if (isFunction)
                    {
                        _indirectJumps.Add((unit, at));
                    }

                    afterStop = true;
                    break;
                default:
                    afterStop = true;
                    break;
            }

            if (shape.RipOffset != 0)
            {
                AddOperand(unchecked(Address + (ulong)next + (ulong)*(int*)(code + at + shape.RipOffset)), shape.TakesAddress);
            }
            else if (_isAbsolute && shape.ImmediateOffset != 0)
            {
                AddImmediate(*(uint*)(code + at + shape.ImmediateOffset));
            }

            at = next;
        }

        _afterStop = afterStop;
        return isWhole;
    }

    private unsafe void AddBranch(byte* code, int unit, int next, int relativeLength, bool isCall, int end)
    {
        long target = next + (relativeLength == 1 ? *(sbyte*)(code + next - 1) : *(int*)(code + next - 4));
        if (target < 0 || target >= Length)
        {
            return;
        }

        Targets.Set((int)target);
        if (!isCall && unit >= 0 && (target < UnitStarts[unit] || target >= end))
        {
            _edges.Add((unit, (int)target));
        }
    }

    private void AddOperand(ulong address, bool isTaken)
    {
        if (address - Address < (ulong)Length)
        {
            int offset = (int)(address - Address);
            if (isTaken)
            {
                Targets.Set(offset);
                _takenAddresses.Add(offset);
            }
            else
            {
                _dataReferences.Add(offset);
            }
        }

        if (isTaken)
        {
            _unitTables.Add(address);
        }
    }

    /// <summary>An immediate may be an address of code or of a table, or a number that looks like one.</summary>
    private void AddImmediate(ulong value)
    {
        if (value - Address < (ulong)Length)
        {
            _immediates.Add((int)(value - Address));
        }

        _unitTables.Add(value);
    }

    /// <summary>What no function covers: padding, if it is nothing but that, or code of which only the branches are of interest.</summary>
    private unsafe void SweepGap(byte* code, int start, int end)
    {
        bool afterStop = _afterStop;
        int at = start;
        while (at < end)
        {
            if (code[at] == 0)
            {
                at++;
                continue;
            }

            _shapes.Decode(code + at, out X64Shape shape);
            if (shape.Flow != X64Flow.Filler || at + shape.Length > end)
            {
                break;
            }

            at += shape.Length;
        }

        if (at < end)
        {
            SweepUnit(code, -1, start, end, false);
            return;
        }

        if (afterStop)
        {
            Padding.SetRange(start, end);
            _gaps.Add((start, end));
        }
    }

    /// <summary>An operand of an instruction stands there.</summary>
    private void MarkData(int offset)
    {
        int unit = FindUnit(offset);
        if (unit >= 0)
        {
            UnitTraits[unit] |= CodeTraits.NotDecodable;
            return;
        }

        // The gap's bytes may all be its data.
        int gap = _gaps.FindIndex(g => offset >= g.Start && offset < g.End);
        if (gap >= 0)
        {
            Padding.ClearRange(_gaps[gap].Start, _gaps[gap].End);
        }
    }

    /// <summary>A target which is not the start of an instruction: there are two rows of instructions, or data.</summary>
    private void MarkOverlaps()
    {
        ReadOnlySpan<ulong> targets = Targets.Words;
        ReadOnlySpan<ulong> starts = Starts.Words;
        for (int i = 0; i < targets.Length; i++)
        {
            for (ulong rest = targets[i] & ~starts[i]; rest != 0; rest &= rest - 1)
            {
                int offset = (i << 6) + BitOperations.TrailingZeroCount(rest);
                int unit = FindUnit(offset);

                // Jumps past a lock prefix, as C libraries do in programs with one thread, lead into an instruction on purpose.
                if (unit >= 0 && !(offset > 0 && Code[offset - 1] == 0xf0 && Starts[offset - 1]))
                {
                    UnitTraits[unit] |= CodeTraits.NotDecodable;
                }
            }
        }

        foreach (int offset in _takenAddresses)
        {
            // Data between functions whose address is taken may reach over what looks like padding.
            if (Padding[offset] && FindUnit(offset) < 0)
            {
                MarkData(offset);
            }
        }
    }
}
