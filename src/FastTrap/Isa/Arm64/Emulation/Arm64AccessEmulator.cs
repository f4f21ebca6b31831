using System.Buffers.Binary;

namespace FastTrap.Isa.Arm64;

/// <summary>Carries out loads and stores of one or two general registers. Registers are written last, so that a fault leaves them alone.</summary>
internal static class Arm64AccessEmulator
{
    private const int LargestAccess = 2 * sizeof(ulong);

    public static bool TryLoad(in DisplacedInstruction instruction, Span<ulong> words, ITargetMemory memory, out ulong faultAddress)
    {
        Span<byte> buffer = stackalloc byte[LargestAccess];
        buffer.Clear();
        bool isPair = (Arm64Operation)instruction.Operation == Arm64Operation.LoadPair;
        int size = instruction.Size;
        if (!TryGetAddress(instruction, words, out ulong address, out faultAddress)
            || !Arm64Memory.TryLoad(memory, address, buffer[..(isPair ? 2 * size : size)], out faultAddress))
        {
            return false;
        }

        WriteBack(instruction, words, address);
        Arm64Emulator.Write(words, instruction.Destination, Extend(buffer, size, instruction.SourceSize));
        if (isPair)
        {
            Arm64Emulator.Write(words, instruction.Index, Extend(buffer[size..], size, instruction.SourceSize));
        }

        return true;
    }

    public static bool TryStore(in DisplacedInstruction instruction, Span<ulong> words, ITargetMemory memory, out ulong faultAddress)
    {
        Span<byte> buffer = stackalloc byte[LargestAccess + sizeof(ulong)];
        bool isPair = (Arm64Operation)instruction.Operation == Arm64Operation.StorePair;
        int size = instruction.Size;
        BinaryPrimitives.WriteUInt64LittleEndian(buffer, Arm64Emulator.Read(words, instruction.Destination));
        if (isPair)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(buffer[size..], Arm64Emulator.Read(words, instruction.Index));
        }

        if (!TryGetAddress(instruction, words, out ulong address, out faultAddress)
            || !Arm64Memory.TryStore(memory, address, buffer[..(isPair ? 2 * size : size)], out faultAddress))
        {
            return false;
        }

        WriteBack(instruction, words, address);
        return true;
    }

    /// <summary>False for a stack pointer that is not aligned to 16: such an access faults, whatever the memory.</summary>
    private static bool TryGetAddress(in DisplacedInstruction instruction, ReadOnlySpan<ulong> words, out ulong address, out ulong faultAddress)
    {
        faultAddress = 0;
        address = instruction.Displacement;
        Arm64Form form = (Arm64Form)instruction.Form;
        if (form == Arm64Form.Literal)
        {
            return true;
        }

        ulong start = words[instruction.Base];
        address = form == Arm64Form.PostIndex ? start : start + address;
        faultAddress = address;
        return instruction.Base != (byte)Arm64Register.Sp || start % 16 == 0;
    }

    private static void WriteBack(in DisplacedInstruction instruction, Span<ulong> words, ulong address)
    {
        if ((Arm64Form)instruction.Form == Arm64Form.PreIndex)
        {
            words[instruction.Base] = address;
        }
        else if ((Arm64Form)instruction.Form == Arm64Form.PostIndex)
        {
            words[instruction.Base] = address + instruction.Displacement;
        }
    }

    /// <summary>Extends what was loaded: with zeros to 64 bits, or with the sign to <paramref name="signedTo"/> bytes and zeros above.</summary>
    private static ulong Extend(ReadOnlySpan<byte> bytes, int size, int signedTo)
    {
        ulong value = size switch
        {
            1 => bytes[0],
            2 => BinaryPrimitives.ReadUInt16LittleEndian(bytes),
            4 => BinaryPrimitives.ReadUInt32LittleEndian(bytes),
            _ => BinaryPrimitives.ReadUInt64LittleEndian(bytes),
        };
        if (signedTo == 0)
        {
            return value;
        }

        int unused = 64 - (size * 8);
        return Arm64Emulator.Cut((ulong)((long)(value << unused) >> unused), signedTo);
    }
}
