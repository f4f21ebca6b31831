using FastTrap.Native;

namespace FastTrap.Isa.X64;

/// <summary>
/// Carries out control transfers, the stack's own instructions and no-ops; the rest goes to <see cref="X64DataEmulator"/>. Pure, and
/// allocates nothing.
/// </summary>
/// <remarks>
/// Registers are written last, so that a fault leaves them alone. Source: fasttrap_isa.c, fasttrap_pid_probe (its switch over
/// fasttrap_tracepoint_t.ftt_type), without the errors that are known of it.
/// </remarks>
internal static class X64Emulator
{
    public static EmulationOutcome Run(
        in DisplacedInstruction instruction, ref RegisterSet registers, ITargetMemory memory, out ulong faultAddress)
    {
        Span<ulong> words = registers.Words;
        ref ulong pc = ref words[(int)X64Register.Rip];
        ref ulong sp = ref words[(int)X64Register.Rsp];
        ulong flags = words[(int)X64Register.Eflags];
        ulong value;
        faultAddress = 0;
        switch ((X64Operation)instruction.Operation)
        {
            case X64Operation.Nop:
                pc = instruction.NextAddress;
                return EmulationOutcome.Done;

            case X64Operation.Jump:
                pc = instruction.Immediate;
                return EmulationOutcome.Done;

            case X64Operation.JumpConditional:
                pc = X64Flags.Holds(instruction.Condition, flags) ? instruction.Immediate : instruction.NextAddress;
                return EmulationOutcome.Done;

            case X64Operation.JumpCounterZero:
                pc = (words[(int)X64Register.Rcx] & X64Flags.Mask(instruction.AddressSize)) == 0 ? instruction.Immediate : instruction.NextAddress;
                return EmulationOutcome.Done;

            case X64Operation.Loop or X64Operation.LoopEqual or X64Operation.LoopNotEqual:
                pc = Loop(instruction, words, flags) ? instruction.Immediate : instruction.NextAddress;
                return EmulationOutcome.Done;

            case X64Operation.JumpIndirect:
                if (!TryReadTarget(instruction, words, memory, out value, out faultAddress))
                {
                    return EmulationOutcome.ReadFault;
                }

                pc = value;
                return EmulationOutcome.Done;

            case X64Operation.Call:
                if (!TryPush(memory, ref sp, instruction.NextAddress, out faultAddress))
                {
                    return EmulationOutcome.WriteFault;
                }

                pc = instruction.Immediate;
                return EmulationOutcome.Done;

            case X64Operation.CallIndirect:
                return CallIndirect(instruction, words, memory, out faultAddress);

            case X64Operation.Return:
                if (!X64Memory.TryLoad(memory, sp, sizeof(ulong), out value, out faultAddress) || !IsTarget(value, out faultAddress))
                {
                    return EmulationOutcome.ReadFault;
                }

                sp += sizeof(ulong) + instruction.Immediate;
                pc = value;
                return EmulationOutcome.Done;

            case X64Operation.Push:
                if (!TryReadSource(instruction, words, memory, out value, out faultAddress))
                {
                    return EmulationOutcome.ReadFault;
                }

                if (!TryPush(memory, ref sp, value, out faultAddress))
                {
                    return EmulationOutcome.WriteFault;
                }

                pc = instruction.NextAddress;
                return EmulationOutcome.Done;

            case X64Operation.Pop:
                if (!X64Memory.TryLoad(memory, sp, sizeof(ulong), out value, out faultAddress))
                {
                    return EmulationOutcome.ReadFault;
                }

                // In this order: pop %rsp leaves what was popped.
                sp += sizeof(ulong);
                words[instruction.Destination] = value;
                pc = instruction.NextAddress;
                return EmulationOutcome.Done;

            case X64Operation.Leave:
                ref ulong frame = ref words[(int)X64Register.Rbp];
                if (!X64Memory.TryLoad(memory, frame, sizeof(ulong), out value, out faultAddress))
                {
                    return EmulationOutcome.ReadFault;
                }

                sp = frame + sizeof(ulong);
                frame = value;
                pc = instruction.NextAddress;
                return EmulationOutcome.Done;

            default:
                return X64DataEmulator.Run(instruction, words, memory, out faultAddress);
        }
    }

    /// <summary>Whether the return address is stored before the target is looked at differs between processors: what is below the stack pointer tells.</summary>
    private static EmulationOutcome CallIndirect(in DisplacedInstruction instruction, Span<ulong> words, ITargetMemory memory, out ulong faultAddress)
    {
        if (!TryReadSource(instruction, words, memory, out ulong target, out faultAddress))
        {
            return EmulationOutcome.ReadFault;
        }

        ulong sp = words[(int)X64Register.Rsp];
        if (Processor.LooksAtTargetFirst && !IsTarget(target, out ulong impossible))
        {
            // The stack has to be writable all the same, and stays as it is.
            bool isWritable = X64Memory.TryLoad(memory, sp - sizeof(ulong), sizeof(ulong), out ulong kept, out faultAddress)
                && X64Memory.TryStore(memory, sp - sizeof(ulong), sizeof(ulong), kept, out faultAddress);
            faultAddress = isWritable ? impossible : faultAddress;
            return isWritable ? EmulationOutcome.ReadFault : EmulationOutcome.WriteFault;
        }

        if (!TryPush(memory, ref sp, instruction.NextAddress, out faultAddress))
        {
            return EmulationOutcome.WriteFault;
        }

        if (!IsTarget(target, out faultAddress))
        {
            return EmulationOutcome.ReadFault;
        }

        words[(int)X64Register.Rsp] = sp;
        words[(int)X64Register.Rip] = target;
        return EmulationOutcome.Done;
    }

    /// <summary>The address of the memory operand.</summary>
    internal static ulong AddressOf(in DisplacedInstruction instruction, ReadOnlySpan<ulong> words)
    {
        ulong address = instruction.Displacement;
        if (instruction.Base != DisplacedInstruction.NoRegister)
        {
            address += words[instruction.Base];
        }

        if (instruction.Index != DisplacedInstruction.NoRegister)
        {
            address += words[instruction.Index] * instruction.Scale;
        }

        if (instruction.AddressSize == sizeof(uint))
        {
            address = (uint)address;
        }

        // An access to the offset faults in the same way as that of the instruction.
        bool isPlain = instruction.Segment == DisplacedInstruction.NoRegister || (Processor.LooksAtOffsets && !X64Memory.IsCanonical(address));
        return isPlain ? address : address + words[instruction.Segment];
    }

    /// <summary>Whether a byte that a branch could not access belongs to a stack operand: pushed, popped, or addressed by rsp or rbp.</summary>
    internal static bool IsStackAccess(in DisplacedInstruction instruction, in RegisterSet registers, ulong address)
    {
        const byte StackPointer = (byte)X64Register.Rsp;
        const byte FramePointer = (byte)X64Register.Rbp;
        ulong sp = registers[X64Register.Rsp];
        bool pushes = instruction.Has(DisplacedTraits.Call) && address - (sp - sizeof(ulong)) < sizeof(ulong);
        bool pops = instruction.Has(DisplacedTraits.Return) && address - sp < sizeof(ulong);
        bool loads = (X64Form)instruction.Form == X64Form.Memory && instruction.Segment == DisplacedInstruction.NoRegister
            && instruction.Base is StackPointer or FramePointer && address - AddressOf(instruction, registers.Words) < sizeof(ulong);
        return pushes || pops || loads;
    }

    private static bool Loop(in DisplacedInstruction instruction, Span<ulong> words, ulong flags)
    {
        ulong mask = X64Flags.Mask(instruction.AddressSize);
        ref ulong counter = ref words[(int)X64Register.Rcx];
        counter = (counter - 1) & mask;
        bool zero = (flags & X64Flags.Zero) != 0;
        return counter != 0 && (X64Operation)instruction.Operation switch
        {
            X64Operation.LoopEqual => zero,
            X64Operation.LoopNotEqual => !zero,
            _ => true,
        };
    }

    private static bool TryReadTarget(
        in DisplacedInstruction instruction, ReadOnlySpan<ulong> words, ITargetMemory memory, out ulong target, out ulong faultAddress) =>
        TryReadSource(instruction, words, memory, out target, out faultAddress) && IsTarget(target, out faultAddress);

    /// <summary>A jump to an impossible address faults before it is taken; touching that address raises the same signal.</summary>
    private static bool IsTarget(ulong target, out ulong faultAddress)
    {
        bool canonical = X64Memory.IsCanonical(target);
        faultAddress = canonical ? 0 : target;
        return canonical;
    }

    private static bool TryReadSource(
        in DisplacedInstruction instruction, ReadOnlySpan<ulong> words, ITargetMemory memory, out ulong value, out ulong faultAddress)
    {
        faultAddress = 0;
        switch ((X64Form)instruction.Form)
        {
            case X64Form.Register:
                value = words[instruction.Source];
                return true;
            case X64Form.Immediate:
                value = instruction.Immediate;
                return true;
            default:
                return X64Memory.TryLoad(memory, AddressOf(instruction, words), sizeof(ulong), out value, out faultAddress);
        }
    }

    private static bool TryPush(ITargetMemory memory, ref ulong sp, ulong value, out ulong faultAddress)
    {
        if (!X64Memory.TryStore(memory, sp - sizeof(ulong), sizeof(ulong), value, out faultAddress))
        {
            return false;
        }

        sp -= sizeof(ulong);
        return true;
    }
}
