using FastTrap.Native;
using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>Decodes one instruction and decides between emulation, slot and refusal.</summary>
internal static class X64Classifier
{
    public const int MaxInstructionLength = 15;

    public static unsafe bool TryDecode(ReadOnlySpan<byte> bytes, ulong pc, out DisplacedInstruction displaced, out ProbeRefusal reason)
    {
        if (bytes.Length > MaxInstructionLength)
        {
            bytes = bytes[..MaxInstructionLength];
        }

        X64Decoding decoding = X64Decoding.Current;
        Instruction instruction;
        ConstantOffsets offsets;
        DecoderError error;
        fixed (byte* code = bytes)
        {
            decoding.Start(code, bytes.Length, pc);
            decoding.Decode(out instruction);
            error = decoding.LastError;
            offsets = decoding.ConstantOffsets(instruction);
        }

        if (error != DecoderError.None || instruction.IsInvalid)
        {
            displaced = DisplacedInstruction.Create(bytes, pc);
            displaced.Kind = DisplacedKind.Refused;
            reason = error == DecoderError.NoMoreBytes && bytes.Length < MaxInstructionLength ? ProbeRefusal.Truncated : ProbeRefusal.Undecodable;
            return false;
        }

        bytes = bytes[..instruction.Length];
        X64Prefixes prefixes = new(bytes);
        displaced = DisplacedInstruction.Create(bytes, pc);
        reason = RefusalOf(instruction, prefixes);
        if (reason != ProbeRefusal.None)
        {
            displaced.Kind = DisplacedKind.Refused;
            return false;
        }

        if (offsets.HasDisplacement)
        {
            displaced.DisplacementOffset = (byte)offsets.DisplacementOffset;
        }

        displaced.AddressSize = (byte)(prefixes.AddressSize ? 4 : 8);
        SetTraits(instruction, ref displaced);
        if (!IsNearBranch(instruction))
        {
            displaced.Traits |= DisplacedTraits.SlotPossible;
        }

        DisplacedInstruction emulated = displaced;
        if (X64OperandDecoder.TrySetOperation(instruction, prefixes, ref emulated))
        {
            displaced = emulated;
            displaced.Kind = DisplacedKind.Emulated;
            return true;
        }

        if (!displaced.Has(DisplacedTraits.SlotPossible))
        {
            // Every near branch is emulated: one which is not is none that this processor family has.
            displaced.Kind = DisplacedKind.Refused;
            reason = ProbeRefusal.Undecodable;
            return false;
        }

        displaced.Kind = DisplacedKind.Slot;
        return true;
    }

    private static void SetTraits(in Instruction instruction, ref DisplacedInstruction displaced)
    {
        if (instruction.IsIPRelativeMemoryOperand)
        {
            displaced.Traits |= DisplacedTraits.PcRelative;
            displaced.Displacement = instruction.IPRelativeMemoryAddress;
        }

        if (instruction.Code == Code.Syscall || (instruction.Mnemonic == Mnemonic.Int && instruction.Immediate8 == 0x80))
        {
            displaced.Traits |= DisplacedTraits.SystemCall;
        }

        if (instruction.IsStringInstruction && (instruction.HasRepPrefix || instruction.HasRepnePrefix))
        {
            displaced.Traits |= DisplacedTraits.Repeat;
        }

        if (instruction.Mnemonic == Mnemonic.Xbegin)
        {
            displaced.Traits |= DisplacedTraits.BeginsTransaction;
            displaced.Immediate = instruction.NearBranchTarget;
        }

        if (instruction.Mnemonic is Mnemonic.Ud0 or Mnemonic.Ud1 or Mnemonic.Ud2)
        {
            displaced.Traits |= DisplacedTraits.Faults;
        }
    }

    internal static bool IsNearBranch(in Instruction instruction) =>
        instruction.IsJccShortOrNear || instruction.IsJmpShortOrNear || instruction.IsCallNear || instruction.IsJmpNearIndirect
        || instruction.IsCallNearIndirect || instruction.IsLoop || instruction.IsLoopcc || instruction.IsJcxShort
        || instruction.Mnemonic == Mnemonic.Ret;

    private static ProbeRefusal RefusalOf(in Instruction instruction, X64Prefixes prefixes)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Int3:
                return ProbeRefusal.AlreadyBreakpoint;
            case Mnemonic.Iret or Mnemonic.Iretd or Mnemonic.Iretq or Mnemonic.Uiret:
                return ProbeRefusal.InterruptReturn;
            case Mnemonic.Sysenter:
                return ProbeRefusal.FastSystemTransfer;
            case Mnemonic.Retf:
                return ProbeRefusal.FarTransfer;
            case Mnemonic.Int or Mnemonic.Int1:
                // A system call of 32-bit programs, or a signal: either from a slot as from here.
                return ProbeRefusal.None;
            case Mnemonic.Sysexit or Mnemonic.Sysexitq or Mnemonic.Sysret or Mnemonic.Sysretq or Mnemonic.Rsm or Mnemonic.Skinit
                or Mnemonic.Erets or Mnemonic.Eretu:
                // For the kernel, or for less than it: in a program they raise a signal.
                return ProbeRefusal.None;
            case Mnemonic.Mov or Mnemonic.Pop when instruction.Op0Kind == OpKind.Register && instruction.Op0Register == Register.SS:
                return ProbeRefusal.MasksTraps;
        }

        if (instruction.IsCallFar || instruction.IsCallFarIndirect || instruction.IsJmpFar || instruction.IsJmpFarIndirect)
        {
            return ProbeRefusal.FarTransfer;
        }

        bool branch = IsNearBranch(instruction);
        if (prefixes.OperandSize && !prefixes.RexW
            && (branch ? !Processor.IgnoresOperandSizeOfBranches : instruction.Mnemonic == Mnemonic.Xbegin))
        {
            return ProbeRefusal.OperandSizeBranch;
        }

        if (branch && prefixes.SegmentsConflict && instruction.Op0Kind == OpKind.Memory)
        {
            return ProbeRefusal.ConflictingSegments;
        }

        if (branch)
        {
            return ProbeRefusal.None;
        }

        return instruction.FlowControl switch
        {
            // System calls and hypervisor calls come back to the next instruction; the undefined and the privileged ones raise their signal in the slot.
            FlowControl.Next or FlowControl.Call or FlowControl.Exception or FlowControl.XbeginXabortXend => ProbeRefusal.None,
            FlowControl.Interrupt => ProbeRefusal.SoftwareInterrupt,
            FlowControl.Return => ProbeRefusal.InterruptReturn,
            _ => ProbeRefusal.FarTransfer,
        };
    }
}
