using System.Buffers.Binary;
using FastTrap.Isa;
using FastTrap.Isa.Arm64;

namespace FastTrap.Tests.Isa.Arm64;

/// <summary>
/// Runs single instructions both ways, through this library and on the oracle, from one random state with a code region full of literals and a data region,
/// and compares all registers, all data and the error.
/// </summary>
internal sealed unsafe class Arm64Bench : IDisposable, ITargetMemory
{
    private const ulong CodeStart = 0x40_0000_0000;
    private const int CodeLength = 4 << 20;
    private const ulong DataStart = 0x50_0000_0000;
    private const int DataLength = 96 << 10;
    private const uint BranchToSelf = 0x1400_0000;

    /// <summary>Slots in reach of a literal load, of a branch, of neither; before and behind the code.</summary>
    private static readonly ulong[] s_slotPages =
        [CodeStart + (CodeLength / 2) + 0x8_0000, CodeStart - 0x600_0000, CodeStart + 0x780_0000, 0x60_0000_0000];

    private readonly UnicornMachine _machine = new();
    private readonly byte* _code;
    private readonly byte* _data;
    private readonly nint[] _slots = new nint[s_slotPages.Length];
    private readonly byte[] _pristine = new byte[DataLength];
    private readonly byte[] _expected = new byte[DataLength];
    private readonly List<(int Offset, byte[] Before)> _log = [];
    private readonly Random _random;
    private readonly ulong _pc = CodeStart + (CodeLength / 2);

    public Arm64Bench(int seed)
    {
        _random = new Random(seed);
        _code = Map(CodeStart, CodeLength, true);
        for (int i = 0; i < CodeLength; i += sizeof(uint))
        {
            // Literals which are harmless instructions too: the oracle translates what a branch leads to.
            uint literal = (_random.Next(2) == 0 ? 0x9100_0000 : 0x1400_0000) | (uint)_random.Next(1 << 24);
            BinaryPrimitives.WriteUInt32LittleEndian(new Span<byte>(_code + i, sizeof(uint)), literal);
        }

        PutCode(_pc + 4, BranchToSelf);
        _data = Map(DataStart, DataLength, false);
        _random.NextBytes(_pristine);
        _pristine.CopyTo(Data);
        for (int i = 0; i < _slots.Length; i++)
        {
            // The first lies in the code region.
            _slots[i] = i == 0 ? (nint)(_code + (s_slotPages[0] - CodeStart)) : (nint)Map(s_slotPages[i], 4096, true);
        }
    }

    private Span<byte> Data => new(_data, DataLength);

    public void Dispose() => _machine.Dispose();

    /// <summary>Compares an emulated instruction with the oracle; null if equal, or what differs. Counts what was refused or is not emulated.</summary>
    public string? CompareEmulated(uint word, ref int emulated)
    {
        DisplacedInstruction instruction = Decode(word, out bool isDecoded);
        if (!isDecoded || instruction.Kind != DisplacedKind.Emulated)
        {
            return null;
        }

        emulated++;
        Arm64State before = RandomState(word);
        RegisterSet registers = before.ToRegisterSet();
        registers[Arm64Register.Pstate] |= RegisterSet.Arm64BranchType;
        EmulationOutcome outcome = Arm64InstructionSet.Instance.Emulate(instruction, ref registers, this, out ulong faultAddress);
        Arm64State ours = before;
        ours.Take(registers);

        // The oracle does not know the hint in BC.cond.
        bool isHinted = (word & 0xff00_0010) == 0x5400_0010;
        Arm64State theirs = before;
        PutCode(_pc, isHinted ? word & ~0x10u : word);
        int error = _machine.Step(ref theirs, _pc);
        string? difference = null;
        if (outcome == EmulationOutcome.Done)
        {
            difference = ours.DifferenceFrom(theirs);
            difference = IsBadTarget(error, theirs.Pc) || error == 0 ? difference : $"error {error}";
        }
        else if (error == 0 || faultAddress - DataStart < DataLength)
        {
            difference = $"a fault at {faultAddress:x}, error {error}";
        }

        if (!Data.SequenceEqual(_pristine))
        {
            difference += " data";
        }

        Undo();
        return string.IsNullOrEmpty(difference) ? null : $"{word:x8} {outcome}: {difference}";
    }

    /// <summary>Compares an instruction in a slot, both parts, with the same at its place; null if equal, or what differs.</summary>
    /// <remarks>
    /// Now and then Unicorn goes on executing what once stood at an address, although it was told. So a difference counts if it shows at two more slots
    /// of the page; what this library does wrong it does in all of them.
    /// </remarks>
    public string? CompareSlotted(uint word, ref int slotted)
    {
        DisplacedInstruction instruction = Decode(word, out bool isDecoded);
        if (!isDecoded || !instruction.Has(DisplacedTraits.SlotPossible))
        {
            return null;
        }

        slotted++;
        Arm64State before = RandomState(word);
        int page = _random.Next(s_slotPages.Length);
        string? difference = null;
        for (int attempt = 0; attempt < 3; attempt++)
        {
            difference = CompareAt(page, word, instruction, before);
            if (difference is null)
            {
                break;
            }
        }

        return difference;
    }

    private string? CompareAt(int page, uint word, in DisplacedInstruction instruction, Arm64State before)
    {
        ulong slotAddress = s_slotPages[page] + (ulong)(_random.Next(100) * Arm64InstructionSet.Instance.SlotLength);
        Span<byte> slot = new((byte*)_slots[page] + (slotAddress - s_slotPages[page]), Arm64InstructionSet.Instance.SlotLength);
        if (!Arm64InstructionSet.Instance.TryBuildSlot(instruction, slotAddress, slot, out SlotLayout layout, out ProbeRefusal reason))
        {
            return $"{word:x8}: {reason}";
        }

        _machine.Changed(slotAddress, slot.Length);
        Arm64State original = before;
        PutCode(_pc, word);
        int error = _machine.Step(ref original, _pc);
        Data.CopyTo(_expected);
        _pristine.CopyTo(Data);

        string? difference = null;
        if (layout.CanContinue)
        {
            difference = Continue(before, original, error, instruction, layout, slotAddress);
        }

        difference ??= Trap(before, original, error, instruction, layout, slotAddress);
        return difference is null ? null : $"{word:x8} at {slotAddress:x}: {difference}";
    }

    /// <inheritdoc/>
    public bool TryRead(ulong address, Span<byte> buffer)
    {
        if (address - CodeStart <= (ulong)(CodeLength - buffer.Length))
        {
            new Span<byte>(_code + (address - CodeStart), buffer.Length).CopyTo(buffer);
            return true;
        }

        if (address - DataStart > (ulong)(DataLength - buffer.Length))
        {
            return false;
        }

        _pristine.AsSpan((int)(address - DataStart), buffer.Length).CopyTo(buffer);
        return true;
    }

    /// <inheritdoc/>
    public bool TryWrite(ulong address, ReadOnlySpan<byte> bytes)
    {
        if (address - DataStart > (ulong)(DataLength - bytes.Length))
        {
            return false;
        }

        Span<byte> target = _pristine.AsSpan((int)(address - DataStart), bytes.Length);
        _log.Add(((int)(address - DataStart), target.ToArray()));
        bytes.CopyTo(target);
        return true;
    }

    private string? Continue(
        Arm64State before, in Arm64State original, int error, in DisplacedInstruction instruction, in SlotLayout layout, ulong slotAddress)
    {
        Arm64State state = before;
        int slotError = _machine.Step(ref state, slotAddress + (ulong)layout.ContinueOffset);
        Arm64State normalized = Normalize(state, instruction, layout, slotAddress);
        string? difference = Compare(normalized, slotError, original, error, "normalized");
        if (difference is null && error == 0 && state.Pc - slotAddress < (ulong)Arm64InstructionSet.Instance.SlotLength)
        {
            slotError = _machine.Step(ref state, state.Pc);
            difference = Compare(state, slotError, original, error, "continued");
        }

        _pristine.CopyTo(Data);
        return difference;
    }

    private string? Trap(
        Arm64State before, in Arm64State original, int error, in DisplacedInstruction instruction, in SlotLayout layout, ulong slotAddress)
    {
        Arm64State state = before;
        if (layout.Borrows)
        {
            state.Words[layout.BorrowedRegister] = layout.BorrowedSource == SlotLayout.Missing ? layout.BorrowedValue : before.Words[layout.BorrowedSource];
        }

        int slotError = _machine.Step(ref state, slotAddress + (ulong)layout.TrapPartOffset);
        string? difference = slotError == 0 && state.Pc != slotAddress + (ulong)layout.TrapOffset ? $"not at the trap but at {state.Pc:x}" : null;
        Arm64State normalized = Normalize(state, instruction, layout, slotAddress);
        if (layout.Borrows)
        {
            normalized.Words[layout.BorrowedRegister] = before.Words[layout.BorrowedRegister];
        }

        difference ??= Compare(normalized, slotError, original, error, "trapped");
        _pristine.CopyTo(Data);
        return difference;
    }

    private static Arm64State Normalize(Arm64State state, in DisplacedInstruction instruction, in SlotLayout layout, ulong slotAddress)
    {
        RegisterSet registers = state.ToRegisterSet();
        Arm64InstructionSet.Instance.NormalizeSlotPosition(instruction, layout, slotAddress, ref registers);
        state.Take(registers);
        return state;
    }

    private string? Compare(in Arm64State ours, int ourError, in Arm64State theirs, int error, string what)
    {
        // An authenticated branch to nowhere faults there when taken, and not yet at the trap.
        if (ourError != error && !(ourError == 0 && IsBadTarget(error, theirs.Pc)))
        {
            return $"{what}: error {ourError} not {error}";
        }

        string difference = ours.DifferenceFrom(theirs);
        difference += Data.SequenceEqual(_expected) ? "" : " data";
        return difference.Length == 0 ? null : $"{what}: {difference}";
    }

    /// <summary>A branch to where no code is, or not at a multiple of four, is taken; what faults is the fetch.</summary>
    private bool IsBadTarget(int error, ulong pc) =>
        error == UnicornMachine.FetchUnmapped || (error == UnicornMachine.Exception && pc % 4 != 0) || (error != 0 && pc != _pc && pc - CodeStart >= CodeLength);

    private DisplacedInstruction Decode(uint word, out bool isDecoded)
    {
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, word);
        isDecoded = Arm64InstructionSet.Instance.TryDecode(bytes, _pc, out DisplacedInstruction instruction, out _);
        return instruction;
    }

    /// <summary>Registers that the word names as base point into the data, mostly; those of branches into the code.</summary>
    private Arm64State RandomState(uint word)
    {
        Arm64State state = default;
        for (int i = 0; i < 32; i++)
        {
            state.Words[i] = _random.Next(8) switch
            {
                0 => 0,
                1 => ulong.MaxValue,
                2 => 1UL << _random.Next(64),
                3 => (ulong)_random.Next(256),
                4 => CodeStart + (ulong)(_random.Next(CodeLength / 4) * 4),
                _ => (ulong)_random.NextInt64() ^ ((ulong)_random.NextInt64() << 1),
            };
        }

        for (int i = 0; i < Arm64State.VectorCount * 2; i++)
        {
            state.Vectors[i] = (ulong)_random.NextInt64() ^ ((ulong)_random.NextInt64() << 1);
        }

        int rn = (int)(word >> 5) & 31;
        bool isBranch = (word >> 26 & 7) == 5;
        state.Words[31] = DataStart + 8192 + (ulong)(_random.Next(256) * 16);
        if (rn != 31 && _random.Next(16) != 0)
        {
            state.Words[rn] = isBranch ? CodeStart + (ulong)(_random.Next(CodeLength / 4) * 4) : DataStart + 8192 + (ulong)(_random.Next(4096) * (_random.Next(4) == 0 ? 1 : 16) % 4096);
        }

        int rm = (int)(word >> 16) & 31;
        if (rm != rn && rm != 31 && _random.Next(2) == 0)
        {
            // Offsets in registers.
            state.Words[rm] = (ulong)_random.Next(-512, 512);
        }

        state.Words[30] = rn == 30 ? state.Words[30] : CodeStart + (ulong)(_random.Next(CodeLength / 4) * 4);
        state.Words[32] = (ulong)_random.Next(16) << 28;
        state.Words[33] = _pc;
        return state;
    }

    private void Undo()
    {
        for (int i = _log.Count - 1; i >= 0; i--)
        {
            _log[i].Before.CopyTo(_pristine, _log[i].Offset);
        }

        _log.Clear();
        _pristine.CopyTo(Data);
    }

    private void PutCode(ulong address, uint word)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(new Span<byte>(_code + (address - CodeStart), sizeof(uint)), word);
        _machine.Changed(address, sizeof(uint));
    }

    private byte* Map(ulong address, int length, bool isCode)
    {
        fixed (byte* start = _machine.Map(address, length, isCode))
        {
            return start;
        }
    }
}
