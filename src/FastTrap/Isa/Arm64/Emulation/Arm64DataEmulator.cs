namespace FastTrap.Isa.Arm64;

/// <summary>Carries out moves, additions, subtractions and logic on general registers.</summary>
internal static class Arm64DataEmulator
{
    public static void Run(in DisplacedInstruction instruction, Arm64Operation operation, Span<ulong> words, ref ulong state)
    {
        if (operation == Arm64Operation.SetImmediate)
        {
            Arm64Emulator.Write(words, instruction.Destination, instruction.Immediate);
            return;
        }

        int size = instruction.Size;
        if (operation == Arm64Operation.MoveKeep)
        {
            ulong kept = Arm64Emulator.Read(words, instruction.Destination) & ~(0xffffUL << instruction.Scale);
            Arm64Emulator.Write(words, instruction.Destination, Arm64Emulator.Cut(kept | instruction.Immediate, size));
            return;
        }

        ulong left = Arm64Emulator.Cut(Arm64Emulator.Read(words, instruction.Source), size);
        ulong right = (Arm64Form)instruction.Form == Arm64Form.Immediate ? instruction.Immediate : Shifted(instruction, words);
        ulong result = operation switch
        {
            Arm64Operation.Add or Arm64Operation.AddSetFlags => left + right,
            Arm64Operation.Subtract or Arm64Operation.SubtractSetFlags => left - right,
            Arm64Operation.And or Arm64Operation.AndSetFlags => left & right,
            Arm64Operation.Or => left | right,
            _ => left ^ right,
        };
        result = Arm64Emulator.Cut(result, size);
        int sign = (size * 8) - 1;
        ulong flags = operation switch
        {
            Arm64Operation.AddSetFlags => Arm64Flags.Of(result, size, result < left, ((~(left ^ right) & (left ^ result)) >> sign) != 0),
            Arm64Operation.SubtractSetFlags => Arm64Flags.Of(result, size, left >= right, (((left ^ right) & (left ^ result)) >> sign) != 0),
            Arm64Operation.AndSetFlags => Arm64Flags.Of(result, size, false, false),
            _ => state & Arm64Flags.All,
        };
        state = (state & ~Arm64Flags.All) | flags;
        Arm64Emulator.Write(words, instruction.Destination, result);
    }

    /// <summary>The second operand, shifted and, for BIC, ORN, EON and BICS, inverted.</summary>
    private static ulong Shifted(in DisplacedInstruction instruction, ReadOnlySpan<ulong> words)
    {
        int size = instruction.Size;
        int amount = instruction.Scale;
        ulong value = Arm64Emulator.Cut(Arm64Emulator.Read(words, instruction.Index), size);
        value = instruction.Condition switch
        {
            0 => value << amount,
            1 => value >> amount,
            2 => size == sizeof(ulong) ? (ulong)((long)value >> amount) : (uint)((int)value >> amount),
            _ => size == sizeof(ulong) ? ulong.RotateRight(value, amount) : uint.RotateRight((uint)value, amount),
        };
        value = (Arm64Form)instruction.Form == Arm64Form.InvertedRegister ? ~value : value;
        return Arm64Emulator.Cut(value, size);
    }
}
