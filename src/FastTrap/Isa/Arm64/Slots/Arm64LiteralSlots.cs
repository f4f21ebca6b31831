namespace FastTrap.Isa.Arm64;

/// <summary>
/// Literal loads out of line. The literal may be written to at any time, so the load is from its true address: with a new offset if that
/// reaches, else through a borrowed register, after which the slot always traps.
/// </summary>
internal static class Arm64LiteralSlots
{
    private const long LiteralRange = 1 << 20;

    /// <summary>LDR (immediate, unsigned offset) by opc and VR of the literal load: W, X, SW, then S, D, Q.</summary>
    private static ReadOnlySpan<uint> ByRegister => [0xb940_0000, 0xf940_0000, 0xb980_0000, 0, 0xbd40_0000, 0xfd40_0000, 0x3dc0_0000];

    /// <summary>Whether both parts of a slot can load the literal directly.</summary>
    public static bool IsInReach(in DisplacedInstruction instruction, ulong slotAddress)
    {
        long distance = (long)(instruction.Displacement - slotAddress);
        return distance is >= -LiteralRange + Arm64Slots.Length and < LiteralRange;
    }

    /// <summary>The same load from another address.</summary>
    public static uint Retarget(Arm64Word word, in DisplacedInstruction instruction, ulong address)
    {
        const uint Imm19 = 0x00ff_ffe0;
        uint offset = (uint)((long)(instruction.Displacement - address) >> 2);
        return (word.Value & ~Imm19) | ((offset << 5) & Imm19);
    }

    public static SlotLayout Build(Arm64Word word, in DisplacedInstruction instruction, Span<byte> slot)
    {
        int borrowed = !word.VR && word.Rt == (int)Arm64Register.X16 ? (int)Arm64Register.X17 : (int)Arm64Register.X16;
        uint load = ByRegister[(int)word.Bits(31, 30) + (word.VR ? 4 : 0)];
        Arm64Slots.Put(slot, 0, load | ((uint)borrowed << 5) | (uint)word.Rt);
        return new SlotLayout
        {
            TrapPartOffset = 0,
            TrapOffset = sizeof(uint),
            InstructionLength = sizeof(uint),
            BorrowedRegister = (sbyte)borrowed,
            BorrowedValue = instruction.Displacement,
        };
    }
}
