using FastTrap.Native;
using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>Recognises the emulated instructions and sets their operands.</summary>
internal static class X64OperandDecoder
{
    /// <summary>False if the instruction is none of those which <see cref="X64Emulator"/> can do.</summary>
    public static bool TrySetOperation(in Instruction instruction, X64Prefixes prefixes, ref DisplacedInstruction displaced)
    {
        if (TrySetBranch(instruction, prefixes, ref displaced) || TrySetNop(instruction, prefixes, ref displaced))
        {
            return true;
        }

        // What these prefixes add to data instructions (atomicity, elision, the undefined) is left to the processor.
        if (prefixes.Lock || prefixes.Repeat != 0 || prefixes.SegmentsConflict)
        {
            return false;
        }

        return TrySetStack(instruction, ref displaced) || TrySetData(instruction, ref displaced);
    }

    private static bool TrySetBranch(in Instruction instruction, X64Prefixes prefixes, ref DisplacedInstruction displaced)
    {
        const DisplacedTraits Conditional = DisplacedTraits.Branch | DisplacedTraits.Conditional;
        if (instruction.IsJccShortOrNear)
        {
            displaced.Condition = ConditionOf(instruction);
            return SetDirect(instruction, X64Operation.JumpConditional, Conditional, ref displaced);
        }

        if (instruction.IsJmpShortOrNear)
        {
            return SetDirect(instruction, X64Operation.Jump, DisplacedTraits.Branch, ref displaced);
        }

        if (instruction.IsCallNear)
        {
            return SetDirect(instruction, X64Operation.Call, DisplacedTraits.Call | DisplacedTraits.WritesMemory, ref displaced);
        }

        switch (instruction.Mnemonic)
        {
            case Mnemonic.Loop:
                return SetDirect(instruction, X64Operation.Loop, Conditional, ref displaced);
            case Mnemonic.Loope:
                return SetDirect(instruction, Processor.RepeatDecidesLoops && prefixes.Repeat == 0xf2 ? X64Operation.LoopNotEqual : X64Operation.LoopEqual, Conditional, ref displaced);
            case Mnemonic.Loopne:
                return SetDirect(instruction, Processor.RepeatDecidesLoops && prefixes.Repeat == 0xf3 ? X64Operation.LoopEqual : X64Operation.LoopNotEqual, Conditional, ref displaced);
            case Mnemonic.Jrcxz or Mnemonic.Jecxz:
                return SetDirect(instruction, X64Operation.JumpCounterZero, Conditional, ref displaced);
            case Mnemonic.Ret:
                displaced.Operation = (byte)X64Operation.Return;
                displaced.Immediate = instruction.OpCount == 0 ? 0UL : instruction.Immediate16;
                displaced.Traits |= DisplacedTraits.Return | DisplacedTraits.ReadsMemory;
                return true;
        }

        if (instruction.IsJmpNearIndirect)
        {
            displaced.Operation = (byte)X64Operation.JumpIndirect;
            displaced.Traits |= DisplacedTraits.Branch | DisplacedTraits.Indirect;
            return TrySetUnary(instruction, ref displaced, reads: true);
        }

        if (instruction.IsCallNearIndirect)
        {
            displaced.Operation = (byte)X64Operation.CallIndirect;
            displaced.Traits |= DisplacedTraits.Call | DisplacedTraits.Indirect | DisplacedTraits.WritesMemory;
            return TrySetUnary(instruction, ref displaced, reads: true);
        }

        return false;
    }

    private static bool SetDirect(in Instruction instruction, X64Operation operation, DisplacedTraits traits, ref DisplacedInstruction displaced)
    {
        displaced.Operation = (byte)operation;
        displaced.Traits |= traits;
        displaced.Immediate = instruction.NearBranchTarget;
        return true;
    }

    private static bool TrySetNop(in Instruction instruction, X64Prefixes prefixes, ref DisplacedInstruction displaced)
    {
        // With AMD, PREFETCH of a register is undefined, and PAUSE with REX.B an exchange.
        if (instruction.Mnemonic is not (Mnemonic.Nop or Mnemonic.Reservednop or Mnemonic.Endbr64 or Mnemonic.Endbr32 or Mnemonic.Pause)
            || instruction.Code is Code.Reservednop_rm16_r16_0F0D or Code.Reservednop_rm32_r32_0F0D or Code.Reservednop_rm64_r64_0F0D
            || (instruction.Mnemonic == Mnemonic.Pause && prefixes.RexB))
        {
            return false;
        }

        displaced.Operation = (byte)X64Operation.Nop;
        return true;
    }

    private static bool TrySetStack(in Instruction instruction, ref DisplacedInstruction displaced)
    {
        displaced.Size = displaced.SourceSize = 8;
        switch (instruction.Code)
        {
            case Code.Push_r64 or Code.Push_rm64:
                displaced.Operation = (byte)X64Operation.Push;
                displaced.Traits |= DisplacedTraits.WritesMemory | DisplacedTraits.SlotPreferred;
                return TrySetUnary(instruction, ref displaced, reads: true);
            case Code.Pushq_imm8 or Code.Pushq_imm32:
                displaced.Operation = (byte)X64Operation.Push;
                displaced.Form = (byte)X64Form.Immediate;
                displaced.Immediate = instruction.GetImmediate(0);
                displaced.Traits |= DisplacedTraits.WritesMemory | DisplacedTraits.SlotPreferred;
                return true;
            case Code.Pop_r64 or Code.Pop_rm64 when instruction.Op0Kind == OpKind.Register:
                displaced.Operation = (byte)X64Operation.Pop;
                displaced.Traits |= DisplacedTraits.ReadsMemory | DisplacedTraits.SlotPreferred;
                return TrySetUnary(instruction, ref displaced, reads: false);
            case Code.Leaveq:
                displaced.Operation = (byte)X64Operation.Leave;
                displaced.Traits |= DisplacedTraits.ReadsMemory | DisplacedTraits.SlotPreferred;
                return true;
            default:
                return false;
        }
    }

    private static bool TrySetData(in Instruction instruction, ref DisplacedInstruction displaced)
    {
        X64Operation operation = OperationOf(instruction);
        if (operation == X64Operation.None)
        {
            return false;
        }

        displaced.Operation = (byte)operation;
        displaced.Condition = ConditionOf(instruction);
        return operation switch
        {
            X64Operation.SignExtendAccumulator or X64Operation.SignIntoData => SetAccumulator(instruction, ref displaced),
            X64Operation.Increment or X64Operation.Decrement or X64Operation.Negate or X64Operation.Not or X64Operation.SetConditional =>
                instruction.Op0Kind == OpKind.Register && TrySetUnary(instruction, ref displaced, reads: false),
            X64Operation.LoadAddress => TrySetLoadAddress(instruction, ref displaced),
            _ => TrySetBinary(instruction, operation, ref displaced),
        };
    }

    private static bool SetAccumulator(in Instruction instruction, ref DisplacedInstruction displaced)
    {
        displaced.Size = instruction.Mnemonic switch
        {
            Mnemonic.Cbw or Mnemonic.Cwd => 2,
            Mnemonic.Cwde or Mnemonic.Cdq => 4,
            _ => 8,
        };
        return true;
    }

    private static bool TrySetLoadAddress(in Instruction instruction, ref DisplacedInstruction displaced)
    {
        displaced.Form = (byte)X64Form.RegisterMemory;
        displaced.Destination = X64Registers.WordOf(instruction.Op0Register);
        displaced.Size = (byte)instruction.Op0Register.GetSize();
        SetAddress(instruction, ref displaced);

        // An address is loaded without its segment's base.
        displaced.Segment = DisplacedInstruction.NoRegister;
        return true;
    }

    /// <summary>Destination and source. Stores only by plain moves: read-modify-write must stay one instruction.</summary>
    private static bool TrySetBinary(in Instruction instruction, X64Operation operation, ref DisplacedInstruction displaced)
    {
        bool loadsDestination = operation is X64Operation.Compare or X64Operation.Test;
        bool immediate = instruction.OpCount == 2 && instruction.Op1Kind is not (OpKind.Register or OpKind.Memory);
        if (instruction.OpCount != 2 || (immediate && !IsImmediate(instruction.Op1Kind)))
        {
            return false;
        }

        if (immediate)
        {
            displaced.Immediate = instruction.GetImmediate(1);
        }
        else if (instruction.Op1Kind == OpKind.Register)
        {
            displaced.Source = X64Registers.WordOf(instruction.Op1Register);
            displaced.SourceSize = (byte)instruction.Op1Register.GetSize();
            if (displaced.Source == DisplacedInstruction.NoRegister)
            {
                return false;
            }
        }

        if (instruction.Op0Kind == OpKind.Memory)
        {
            if (!loadsDestination && operation != X64Operation.Move)
            {
                return false;
            }

            displaced.Form = (byte)(immediate ? X64Form.MemoryImmediate : X64Form.MemoryRegister);
            displaced.Size = (byte)instruction.MemorySize.GetSize();
            displaced.Traits |= (loadsDestination ? DisplacedTraits.ReadsMemory : DisplacedTraits.WritesMemory) | DisplacedTraits.SlotPreferred;
            SetAddress(instruction, ref displaced);
            return true;
        }

        if (instruction.Op0Kind != OpKind.Register)
        {
            return false;
        }

        displaced.Destination = X64Registers.WordOf(instruction.Op0Register);
        displaced.Size = (byte)instruction.Op0Register.GetSize();
        if (displaced.Destination == DisplacedInstruction.NoRegister)
        {
            return false;
        }

        if (instruction.Op1Kind == OpKind.Memory)
        {
            if (operation == X64Operation.Exchange)
            {
                return false;
            }

            displaced.Form = (byte)X64Form.RegisterMemory;
            displaced.SourceSize = (byte)instruction.MemorySize.GetSize();
            displaced.Traits |= DisplacedTraits.ReadsMemory | DisplacedTraits.SlotPreferred;
            SetAddress(instruction, ref displaced);
            return true;
        }

        displaced.Form = (byte)(immediate ? X64Form.RegisterImmediate : X64Form.RegisterRegister);
        return true;
    }

    /// <summary>One operand: a source (<paramref name="reads"/>), or a register which is destination.</summary>
    private static bool TrySetUnary(in Instruction instruction, ref DisplacedInstruction displaced, bool reads)
    {
        if (instruction.Op0Kind == OpKind.Memory)
        {
            displaced.Form = (byte)X64Form.Memory;
            displaced.Traits |= DisplacedTraits.ReadsMemory;
            displaced.SourceSize = 8;
            SetAddress(instruction, ref displaced);
            return true;
        }

        if (instruction.Op0Kind != OpKind.Register)
        {
            return false;
        }

        byte word = X64Registers.WordOf(instruction.Op0Register);
        displaced.Form = (byte)X64Form.Register;
        displaced.Size = displaced.SourceSize = (byte)instruction.Op0Register.GetSize();
        if (reads)
        {
            displaced.Source = word;
        }
        else
        {
            displaced.Destination = word;
        }

        return word != DisplacedInstruction.NoRegister;
    }

    private static void SetAddress(in Instruction instruction, ref DisplacedInstruction displaced)
    {
        displaced.Segment = X64Registers.SegmentWordOf(instruction.MemorySegment);
        displaced.Scale = 1;
        if (instruction.IsIPRelativeMemoryOperand)
        {
            displaced.Displacement = instruction.IPRelativeMemoryAddress;
            return;
        }

        displaced.Displacement = instruction.MemoryDisplacement64;
        displaced.Base = X64Registers.WordOf(instruction.MemoryBase);
        displaced.Index = X64Registers.WordOf(instruction.MemoryIndex);
        displaced.Scale = (byte)instruction.MemoryIndexScale;
    }

    private static bool IsImmediate(OpKind kind) => kind is OpKind.Immediate8 or OpKind.Immediate16 or OpKind.Immediate32 or OpKind.Immediate64
        or OpKind.Immediate8to16 or OpKind.Immediate8to32 or OpKind.Immediate8to64 or OpKind.Immediate32to64;

    /// <summary>The processor's own condition number (0 overflow ... 15 greater).</summary>
    private static byte ConditionOf(in Instruction instruction) =>
        instruction.ConditionCode == ConditionCode.None ? (byte)0 : (byte)(instruction.ConditionCode - ConditionCode.o);

    private static X64Operation OperationOf(in Instruction instruction) => instruction.Mnemonic switch
    {
        Mnemonic.Lea => X64Operation.LoadAddress,
        Mnemonic.Mov => X64Operation.Move,
        Mnemonic.Movzx => X64Operation.MoveZeroExtended,
        Mnemonic.Movsx or Mnemonic.Movsxd => X64Operation.MoveSignExtended,
        Mnemonic.Add => X64Operation.Add,
        Mnemonic.Adc => X64Operation.AddWithCarry,
        Mnemonic.Sub => X64Operation.Subtract,
        Mnemonic.Sbb => X64Operation.SubtractWithBorrow,
        Mnemonic.Cmp => X64Operation.Compare,
        Mnemonic.And => X64Operation.And,
        Mnemonic.Or => X64Operation.Or,
        Mnemonic.Xor => X64Operation.ExclusiveOr,
        Mnemonic.Test => X64Operation.Test,
        Mnemonic.Inc => X64Operation.Increment,
        Mnemonic.Dec => X64Operation.Decrement,
        Mnemonic.Neg => X64Operation.Negate,
        Mnemonic.Not => X64Operation.Not,
        Mnemonic.Xchg => X64Operation.Exchange,
        Mnemonic.Cbw or Mnemonic.Cwde or Mnemonic.Cdqe => X64Operation.SignExtendAccumulator,
        Mnemonic.Cwd or Mnemonic.Cdq or Mnemonic.Cqo => X64Operation.SignIntoData,
        Mnemonic.Seta or Mnemonic.Setae or Mnemonic.Setb or Mnemonic.Setbe or Mnemonic.Sete or Mnemonic.Setg or Mnemonic.Setge
            or Mnemonic.Setl or Mnemonic.Setle or Mnemonic.Setne or Mnemonic.Setno or Mnemonic.Setnp or Mnemonic.Setns or Mnemonic.Seto
            or Mnemonic.Setp or Mnemonic.Sets => X64Operation.SetConditional,
        Mnemonic.Cmova or Mnemonic.Cmovae or Mnemonic.Cmovb or Mnemonic.Cmovbe or Mnemonic.Cmove or Mnemonic.Cmovg or Mnemonic.Cmovge
            or Mnemonic.Cmovl or Mnemonic.Cmovle or Mnemonic.Cmovne or Mnemonic.Cmovno or Mnemonic.Cmovnp or Mnemonic.Cmovns
            or Mnemonic.Cmovo or Mnemonic.Cmovp or Mnemonic.Cmovs => X64Operation.MoveConditional,
        _ => X64Operation.None,
    };
}
