using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>
/// The slot of an instruction whose operand is out of reach: it is written with a register which it does not use as its base, and is the same byte for byte
/// otherwise. Such a slot always traps, for the register must be given back.
/// </summary>
internal static class X64BorrowedSlots
{
    private const int DisplacementLength = 4;
    private const byte VexBase = 0x20;

    /// <summary>
    /// Those that need neither a prefix, a SIB byte nor a displacement. No instruction uses all of them: those with most (<c>cmpxchg16b</c>) have four of them implied, and
    /// no other operand.
    /// </summary>
    private static readonly Register[] s_candidates = [Register.RBX, Register.RSI, Register.RDI, Register.RDX, Register.RCX, Register.RAX];

    public static unsafe bool TryBuild(
        in DisplacedInstruction displaced, Span<byte> slot, out SlotLayout layout, out ProbeRefusal reason)
    {
        layout = new SlotLayout();
        slot.Fill(0xcc);
        Instruction instruction;
        fixed (byte* code = displaced.Bytes)
        {
            X64Decoding decoding = X64Decoding.Current;
            decoding.Start(code, displaced.Length, displaced.Address);
            decoding.Decode(out instruction);
        }

        HashSet<Register> used = [];
        InstructionInfoFactory factory = new();
        foreach (UsedRegister register in factory.GetInfo(instruction).GetUsedRegisters())
        {
            used.Add(register.Register.GetFullRegister());
        }

        foreach (Register candidate in s_candidates)
        {
            if (used.Contains(candidate))
            {
                continue;
            }

            int length = WriteWithBase(displaced, instruction.Encoding, candidate, slot);
            layout = new SlotLayout
            {
                TrapPartOffset = 0,
                TrapOffset = (sbyte)length,
                InstructionLength = (byte)length,
                BorrowedRegister = (sbyte)X64Registers.WordOf(candidate),
                BorrowedValue = displaced.Displacement,
            };
            reason = ProbeRefusal.None;
            return true;
        }

        reason = ProbeRefusal.OutOfReach;
        return false;
    }

    /// <summary>The ModRM byte names the register; the displacement behind it goes; bits that would extend the register's number are cleared.</summary>
    private static int WriteWithBase(in DisplacedInstruction displaced, EncodingKind encoding, Register register, Span<byte> slot)
    {
        ReadOnlySpan<byte> bytes = displaced.Bytes;
        int modRm = displaced.DisplacementOffset - 1;
        int behind = displaced.DisplacementOffset + DisplacementLength;
        bytes[..modRm].CopyTo(slot);
        slot[modRm] = (byte)((bytes[modRm] & 0x38) | (register - Register.RAX));
        bytes[behind..].CopyTo(slot[(modRm + 1)..]);

        X64Prefixes prefixes = new(bytes);
        if (prefixes.RexOffset >= 0)
        {
            slot[prefixes.RexOffset] &= 0xfe;
        }
        else if (encoding is EncodingKind.EVEX or EncodingKind.XOP || (encoding == EncodingKind.VEX && bytes[prefixes.Length] == 0xc4))
        {
            // Inverted there. The two-byte form has none.
            slot[prefixes.Length + 1] |= VexBase;
        }

        return displaced.Length - DisplacementLength;
    }
}
