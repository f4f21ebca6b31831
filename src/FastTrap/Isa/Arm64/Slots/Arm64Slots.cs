using System.Buffers.Binary;

namespace FastTrap.Isa.Arm64;

/// <summary>
/// Builds slots: <c>instruction; b next</c> and <c>instruction; brk #0</c>, one behind the other. A slot that is further than a branch reaches
/// has the second part only: no register is free to go further.
/// </summary>
/// <remarks>Slots are mapped without PROT_BTI: no landing pad is asked for in them.</remarks>
internal static class Arm64Slots
{
    public const int Length = 32;
    public const uint Trap = 0xd420_0000;

    /// <summary>What B reaches, less the area in which slots lie and what lies around it.</summary>
    public const ulong BranchReach = (128UL - 1) * 1024 * 1024;

    private const int Word = sizeof(uint);
    private const long BranchRange = 128L * 1024 * 1024;

    public static bool TryBuild(
        in DisplacedInstruction instruction, ulong slotAddress, Span<byte> slot, out SlotLayout layout, out ProbeRefusal reason)
    {
        slot = slot[..Length];
        for (int offset = 0; offset < Length; offset += Word)
        {
            Put(slot, offset, Trap);
        }

        layout = new SlotLayout();
        if (!instruction.Has(DisplacedTraits.SlotPossible))
        {
            reason = ProbeRefusal.NotForSlots;
            return false;
        }

        reason = ProbeRefusal.None;
        Arm64Word word = WordOf(instruction);
        if (Arm64AuthenticatedSlots.Is(instruction))
        {
            layout = Arm64AuthenticatedSlots.Build(word, instruction, slot);
            return true;
        }

        if (instruction.Has(DisplacedTraits.PcRelative) && !Arm64LiteralSlots.IsInReach(instruction, slotAddress))
        {
            layout = Arm64LiteralSlots.Build(word, instruction, slot);
            return true;
        }

        int second = 0;
        if (TryEncodeBranch(slotAddress + Word, instruction.NextAddress, out uint branch))
        {
            Put(slot, 0, Copy(word, instruction, slotAddress));
            Put(slot, Word, branch);
            second = 2 * Word;
        }

        Put(slot, second, Copy(word, instruction, slotAddress + (ulong)second));
        layout = new SlotLayout
        {
            ContinueOffset = (sbyte)(second == 0 ? SlotLayout.Missing : 0),
            ContinueJumpOffset = (sbyte)(second == 0 ? SlotLayout.Missing : Word),
            TrapPartOffset = (sbyte)second,
            TrapOffset = (sbyte)(second + Word),
            InstructionLength = Word,
        };
        return true;
    }

    public static SlotPosition Normalize(
        in DisplacedInstruction instruction, in SlotLayout layout, ulong slotAddress, ref RegisterSet registers)
    {
        ulong offset = registers.ProgramCounter - slotAddress;
        if (offset >= Length)
        {
            return SlotPosition.Outside;
        }

        if ((int)offset == layout.ContinueOffset || (int)offset == layout.TrapPartOffset)
        {
            registers.ProgramCounter = instruction.Address;
            return SlotPosition.Before;
        }

        if (Arm64AuthenticatedSlots.Is(instruction))
        {
            Arm64AuthenticatedSlots.Complete(instruction, layout, ref registers);
        }
        else
        {
            registers.ProgramCounter = instruction.NextAddress;
        }

        // The trap leaves the pc on itself, so whether it has been executed cannot be told from the registers.
        return SlotPosition.After;
    }

    internal static Arm64Word WordOf(in DisplacedInstruction instruction) => new(BinaryPrimitives.ReadUInt32LittleEndian(instruction.Bytes));

    internal static void Put(Span<byte> slot, int offset, uint word) => BinaryPrimitives.WriteUInt32LittleEndian(slot[offset..], word);

    private static uint Copy(Arm64Word word, in DisplacedInstruction instruction, ulong address) =>
        instruction.Has(DisplacedTraits.PcRelative) ? Arm64LiteralSlots.Retarget(word, instruction, address) : word.Value;

    private static bool TryEncodeBranch(ulong from, ulong to, out uint branch)
    {
        long distance = (long)(to - from);
        branch = 0x1400_0000 | ((uint)(distance >> 2) & 0x03ff_ffff);
        return distance is >= -BranchRange and < BranchRange;
    }
}
