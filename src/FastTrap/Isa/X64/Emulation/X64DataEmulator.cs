namespace FastTrap.Isa.X64;

/// <summary>Carries out moves, arithmetic and logic, with all status flags.</summary>
internal static class X64DataEmulator
{
    public static EmulationOutcome Run(
        in DisplacedInstruction instruction, Span<ulong> words, ITargetMemory memory, out ulong faultAddress)
    {
        X64Operation operation = (X64Operation)instruction.Operation;
        X64Form form = (X64Form)instruction.Form;
        ref ulong flags = ref words[(int)X64Register.Eflags];
        ulong source = instruction.Immediate;
        ulong destination = 0;
        faultAddress = 0;

        if (operation == X64Operation.LoadAddress)
        {
            WriteRegister(words, instruction.Destination, instruction.Size, X64Emulator.AddressOf(instruction, words));
            words[(int)X64Register.Rip] = instruction.NextAddress;
            return EmulationOutcome.Done;
        }

        if (form is X64Form.RegisterMemory
            && !X64Memory.TryLoad(memory, X64Emulator.AddressOf(instruction, words), instruction.SourceSize, out source, out faultAddress))
        {
            return EmulationOutcome.ReadFault;
        }

        if (form is X64Form.RegisterRegister or X64Form.MemoryRegister)
        {
            source = ReadRegister(words, instruction.Source, instruction.SourceSize);
        }

        if (form is X64Form.MemoryRegister or X64Form.MemoryImmediate)
        {
            ulong address = X64Emulator.AddressOf(instruction, words);
            if (operation == X64Operation.Move)
            {
                if (!X64Memory.TryStore(memory, address, instruction.Size, source, out faultAddress))
                {
                    return EmulationOutcome.WriteFault;
                }

                words[(int)X64Register.Rip] = instruction.NextAddress;
                return EmulationOutcome.Done;
            }

            if (!X64Memory.TryLoad(memory, address, instruction.Size, out destination, out faultAddress))
            {
                return EmulationOutcome.ReadFault;
            }
        }
        else if (instruction.Destination != DisplacedInstruction.NoRegister)
        {
            destination = ReadRegister(words, instruction.Destination, instruction.Size);
        }

        words[(int)X64Register.Rip] = instruction.NextAddress;
        switch (operation)
        {
            case X64Operation.Exchange:
                WriteRegister(words, instruction.Source, instruction.Size, destination);
                break;
            case X64Operation.SignExtendAccumulator:
                source = SignExtend(words[(int)X64Register.Rax], instruction.Size / 2);
                WriteRegister(words, (byte)X64Register.Rax, instruction.Size, source);
                return EmulationOutcome.Done;
            case X64Operation.SignIntoData:
                source = (ulong)((long)SignExtend(words[(int)X64Register.Rax], instruction.Size) >> 63);
                WriteRegister(words, (byte)X64Register.Rdx, instruction.Size, source);
                return EmulationOutcome.Done;
        }

        ulong result = Compute(instruction, operation, destination, source, ref flags);
        if (operation is not (X64Operation.Compare or X64Operation.Test))
        {
            WriteRegister(words, instruction.Destination, instruction.Size, result);
        }

        return EmulationOutcome.Done;
    }

    private static ulong Compute(in DisplacedInstruction instruction, X64Operation operation, ulong destination, ulong source, ref ulong flags)
    {
        int size = instruction.Size;
        ulong carry = flags & X64Flags.Carry;
        switch (operation)
        {
            case X64Operation.Move or X64Operation.MoveZeroExtended or X64Operation.Exchange:
                return source;
            case X64Operation.MoveSignExtended:
                return SignExtend(source, instruction.SourceSize);
            case X64Operation.MoveConditional:
                return X64Flags.Holds(instruction.Condition, flags) ? source : destination;
            case X64Operation.SetConditional:
                return X64Flags.Holds(instruction.Condition, flags) ? 1UL : 0UL;
            case X64Operation.Add:
                return X64Flags.Add(destination, source, 0, size, ref flags);
            case X64Operation.AddWithCarry:
                return X64Flags.Add(destination, source, carry, size, ref flags);
            case X64Operation.Subtract or X64Operation.Compare:
                return X64Flags.Subtract(destination, source, 0, size, ref flags);
            case X64Operation.SubtractWithBorrow:
                return X64Flags.Subtract(destination, source, carry, size, ref flags);
            case X64Operation.And or X64Operation.Test:
                return X64Flags.Logic(destination & source, size, ref flags);
            case X64Operation.Or:
                return X64Flags.Logic(destination | source, size, ref flags);
            case X64Operation.ExclusiveOr:
                return X64Flags.Logic(destination ^ source, size, ref flags);
            case X64Operation.Increment:
                destination = X64Flags.Add(destination, 1, 0, size, ref flags);
                flags = (flags & ~X64Flags.Carry) | carry;
                return destination;
            case X64Operation.Decrement:
                destination = X64Flags.Subtract(destination, 1, 0, size, ref flags);
                flags = (flags & ~X64Flags.Carry) | carry;
                return destination;
            case X64Operation.Negate:
                return X64Flags.Subtract(0, destination, 0, size, ref flags);
            case X64Operation.Not:
                return ~destination;
            default:
                throw new InvalidOperationException($"{operation} is not an emulated instruction; ask DisplacedInstruction.Kind first.");
        }
    }

    private static ulong ReadRegister(ReadOnlySpan<ulong> words, byte register, int size)
    {
        ulong value = words[register & ~X64Registers.HighByte];
        if ((register & X64Registers.HighByte) != 0)
        {
            value >>= 8;
        }

        return value & X64Flags.Mask(size);
    }

    /// <summary>Writes as the processor does: 32 bits clear the upper half, 16 and 8 bits leave the rest.</summary>
    private static void WriteRegister(Span<ulong> words, byte register, int size, ulong value)
    {
        ref ulong word = ref words[register & ~X64Registers.HighByte];
        int shift = (register & X64Registers.HighByte) != 0 ? 8 : 0;
        ulong mask = X64Flags.Mask(size) << shift;
        value = (value << shift) & mask;
        word = size == sizeof(uint) ? value : (word & ~mask) | value;
    }

    private static ulong SignExtend(ulong value, int size)
    {
        int shift = 64 - (size * 8);
        return (ulong)((long)(value << shift) >> shift);
    }
}
