using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>What a window's search must know of an instruction.</summary>
/// <param name="Length">Bytes; 0 if it is none.</param>
/// <param name="IsMovable">Whether it can stand elsewhere.</param>
/// <param name="IsCall">Whether it is a near call.</param>
/// <param name="EndsFlow">Whether the next is not reached from it.</param>
internal readonly record struct Movable(int Length, bool IsMovable, bool IsCall, bool EndsFlow);

/// <summary>Decides which instructions may be moved.</summary>
internal static class X64Movability
{
    /// <summary>Decodes the instruction at the beginning of <paramref name="bytes"/>.</summary>
    public static unsafe Movable Examine(ReadOnlySpan<byte> bytes, ulong address)
    {
        fixed (byte* code = bytes)
        {
            X64Decoding decoding = X64Decoding.Current;
            decoding.Start(code, bytes.Length, address);
            decoding.Decode(out Instruction instruction);
            if (decoding.LastError != DecoderError.None || instruction.IsInvalid)
            {
                return default;
            }

            bool ends = instruction.FlowControl is FlowControl.Return or FlowControl.UnconditionalBranch or FlowControl.IndirectBranch or FlowControl.Exception
                || instruction.Mnemonic == Mnemonic.Hlt;
            return new Movable(instruction.Length, CanMove(instruction), instruction.IsCallNear || instruction.IsCallNearIndirect, ends);
        }
    }

    /// <summary>Whether an instruction means the same elsewhere, after what the relocation changes.</summary>
    public static bool CanMove(in Instruction instruction)
    {
        switch (instruction.FlowControl)
        {
            // A trap, a transaction's begin: where they stand is seen, or kept.
            case FlowControl.Interrupt or FlowControl.XbeginXabortXend:
                return false;

            // A system call leaves its address in rcx, and a thread may sleep in it for ever.
            case FlowControl.Call when !instruction.IsCallNear:
            case FlowControl.Return when instruction.Mnemonic != Mnemonic.Ret:
            case FlowControl.UnconditionalBranch when !instruction.IsJmpShortOrNear:
            case FlowControl.IndirectBranch when !instruction.IsJmpNearIndirect:
                return false;
            case FlowControl.IndirectCall:
                return instruction.Code == Code.Call_rm64 && CanPushFirst(instruction);
            default:
                break;
        }

        // ENDBR64 marks its place. A load of the stack segment holds off traps until after the next. Addresses of 32 bits count from eip.
        return instruction.Mnemonic is not (Mnemonic.Endbr64 or Mnemonic.Endbr32) && !instruction.IsPrivileged
            && !(instruction.OpCount > 0 && instruction.Op0Kind == OpKind.Register && instruction.Op0Register == Register.SS)
            && !(instruction.IsIPRelativeMemoryOperand && instruction.MemoryBase == Register.EIP);
    }

    /// <summary>Whether the target of an indirect call can be found after the return address was pushed.</summary>
    private static bool CanPushFirst(in Instruction instruction)
    {
        if (instruction.Op0Kind == OpKind.Register)
        {
            return instruction.Op0Register != Register.RSP;
        }

        // What lies below the stack pointer is written over; what counts in 32 bits may wrap.
        return instruction.MemoryBase != Register.ESP && (instruction.MemoryBase != Register.RSP || (long)instruction.MemoryDisplacement64 is >= 0 and < int.MaxValue - 8);
    }
}
