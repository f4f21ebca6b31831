using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>
/// The slot of an instruction whose operand is out of reach: it is re-encoded with a register which it does not use as its base. Such a
/// slot always traps, for the register must be given back.
/// </summary>
internal static class X64BorrowedSlots
{
    /// <summary>In order of preference: short and rarely implicit ones first, rbp late (its faults are stack faults), never rsp.</summary>
    private static readonly Register[] s_candidates =
    [
        Register.RBX, Register.RSI, Register.RDI, Register.RDX, Register.RCX, Register.RAX, Register.R8, Register.R9, Register.R10,
        Register.R11, Register.R12, Register.R14, Register.R15, Register.R13, Register.RBP,
    ];

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
            if (used.Contains(candidate) || !TryEncode(instruction, candidate, displaced.Address, slot, out int length))
            {
                continue;
            }

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

    private static bool TryEncode(Instruction instruction, Register register, ulong address, Span<byte> slot, out int length)
    {
        instruction.MemoryBase = register;
        instruction.MemoryDisplacement64 = 0;
        instruction.MemoryDisplSize = 0;
        Writer writer = new();
        Encoder encoder = Encoder.Create(64, writer);
        if (!encoder.TryEncode(instruction, address, out uint encoded, out _) || encoded > X64Classifier.MaxInstructionLength)
        {
            length = 0;
            return false;
        }

        length = (int)encoded;
        writer.Bytes[..length].CopyTo(slot);
        return true;
    }

    private sealed class Writer : CodeWriter
    {
        private readonly byte[] _bytes = new byte[32];
        private int _length;

        public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, _length);

        public override void WriteByte(byte value)
        {
            if (_length < _bytes.Length)
            {
                _bytes[_length++] = value;
            }
        }
    }
}
