namespace FastTrap.Isa.Arm64;

/// <summary>Fills in traits and, for what is emulated, the operation with its operands.</summary>
internal static class Arm64OperandDecoder
{
    /// <summary>Sets the traits always, the operation if the instruction is emulated.</summary>
    public static bool TrySetOperation(Arm64Word word, Arm64Class @class, ref DisplacedInstruction displaced)
    {
        ulong pc = displaced.Address;
        switch (@class)
        {
            case Arm64Class.Branch:
                return SetBranch(ref displaced, Arm64Operation.Branch, DisplacedTraits.Branch, word.Imm26Offset);

            case Arm64Class.BranchLink:
                return SetBranch(ref displaced, Arm64Operation.BranchLink, DisplacedTraits.Call, word.Imm26Offset);

            case Arm64Class.BranchConditional:
                displaced.Condition = (byte)word.Cond;
                return SetBranch(ref displaced, Arm64Operation.BranchConditional, DisplacedTraits.Branch | DisplacedTraits.Conditional, word.Imm19Offset);

            case Arm64Class.CompareBranch:
                displaced.Source = OrZero(word.Rt);
                displaced.Size = SizeOf(word.Sf);
                displaced.Condition = (byte)(word.Bit(24) ? 1 : 0);
                return SetBranch(ref displaced, Arm64Operation.CompareBranch, DisplacedTraits.Branch | DisplacedTraits.Conditional, word.Imm19Offset);

            case Arm64Class.TestBranch:
                displaced.Source = OrZero(word.Rt);
                displaced.Scale = (byte)((word.Bits(31, 31) << 5) | word.Bits(23, 19));
                displaced.Condition = (byte)(word.Bit(24) ? 1 : 0);
                return SetBranch(ref displaced, Arm64Operation.TestBranch, DisplacedTraits.Branch | DisplacedTraits.Conditional, word.Imm14Offset);

            case Arm64Class.BranchRegister:
                return SetIndirect(word, ref displaced, Arm64Operation.BranchRegister, DisplacedTraits.Branch | DisplacedTraits.Indirect);

            case Arm64Class.BranchLinkRegister:
                return SetIndirect(word, ref displaced, Arm64Operation.BranchLinkRegister, DisplacedTraits.Call | DisplacedTraits.Indirect);

            case Arm64Class.Return:
                return SetIndirect(word, ref displaced, Arm64Operation.BranchRegister, DisplacedTraits.Return);

            case Arm64Class.Address:
                displaced.Traits = DisplacedTraits.PcRelative;
                displaced.Destination = OrZero(word.Rd);
                displaced.Immediate = word.Bit(31) ? (pc & ~0xfffUL) + (ulong)(word.ImmHiLo << 12) : pc + (ulong)word.ImmHiLo;
                return Set(ref displaced, Arm64Operation.SetImmediate, Arm64Form.Immediate);
        }

        displaced.Traits = DisplacedTraits.SlotPossible;
        return @class switch
        {
            Arm64Class.LoadLiteral => TrySetLiteral(word, ref displaced),
            Arm64Class.Hint => IsNop(word) && Set(ref displaced, Arm64Operation.Nop, Arm64Form.None),
            Arm64Class.MoveWide => TrySetMoveWide(word, ref displaced),
            Arm64Class.AddSubtractImmediate => SetAddSubtractImmediate(word, ref displaced),
            Arm64Class.AddSubtractShifted => TrySetAddSubtractShifted(word, ref displaced),
            Arm64Class.LogicalShifted => TrySetLogicalShifted(word, ref displaced),
            Arm64Class.LoadStorePair or Arm64Class.LoadStoreImmediate or Arm64Class.LoadStoreUnsignedImmediate =>
                Arm64AccessDecoder.TrySetAccess(word, @class, ref displaced),
            _ => SetTraits(@class, ref displaced),
        };
    }

    /// <summary>The word of a general register which is the zero register when its number is 31.</summary>
    internal static byte OrZero(int register) => register == Arm64Word.ZeroOrStackPointer ? DisplacedInstruction.NoRegister : (byte)register;

    internal static byte SizeOf(bool sf) => (byte)(sf ? sizeof(ulong) : sizeof(uint));

    internal static bool Set(ref DisplacedInstruction displaced, Arm64Operation operation, Arm64Form form)
    {
        displaced.Operation = (byte)operation;
        displaced.Form = (byte)form;
        return true;
    }

    private static bool SetTraits(Arm64Class @class, ref DisplacedInstruction displaced)
    {
        displaced.Traits |= @class switch
        {
            Arm64Class.SystemCall => DisplacedTraits.SystemCall,
            Arm64Class.BranchAuthenticated => DisplacedTraits.Branch | DisplacedTraits.Indirect,
            Arm64Class.BranchLinkAuthenticated => DisplacedTraits.Call | DisplacedTraits.Indirect,
            Arm64Class.ReturnAuthenticated => DisplacedTraits.Return,
            Arm64Class.PermanentlyUndefined or Arm64Class.ExceptionGenerating or Arm64Class.ExceptionReturn => DisplacedTraits.Faults,
            _ => DisplacedTraits.None,
        };
        return false;
    }

    private static bool SetBranch(ref DisplacedInstruction displaced, Arm64Operation operation, DisplacedTraits traits, long offset)
    {
        displaced.Traits = traits;
        displaced.Immediate = displaced.Address + (ulong)offset;
        return Set(ref displaced, operation, Arm64Form.Immediate);
    }

    private static bool SetIndirect(Arm64Word word, ref DisplacedInstruction displaced, Arm64Operation operation, DisplacedTraits traits)
    {
        displaced.Traits = traits;
        displaced.Source = OrZero(word.Rn);
        return Set(ref displaced, operation, Arm64Form.None);
    }

    /// <summary>
    /// NOP, YIELD and BTI. The other hints have effects of their own (events, signing, barriers), or may have in processors to come.
    /// </summary>
    private static bool IsNop(Arm64Word word)
    {
        uint number = word.Bits(11, 5);
        return number is 0 or 1 or 32 or 34 or 36 or 38;
    }

    /// <summary>Vector registers are not the emulator's: they are loaded in a slot.</summary>
    private static bool TrySetLiteral(Arm64Word word, ref DisplacedInstruction displaced)
    {
        uint opc = word.Bits(31, 30);
        if (opc == 3)
        {
            // PRFM; with VR it is unallocated.
            return !word.VR && Set(ref displaced, Arm64Operation.Nop, Arm64Form.None);
        }

        displaced.Traits |= DisplacedTraits.PcRelative;
        displaced.Displacement = displaced.Address + (ulong)word.Imm19Offset;
        if (word.VR)
        {
            return false;
        }

        displaced.Traits |= DisplacedTraits.ReadsMemory;
        displaced.Destination = OrZero(word.Rt);
        displaced.Size = (byte)(opc == 1 ? sizeof(ulong) : sizeof(uint));
        displaced.SourceSize = (byte)(opc == 2 ? sizeof(ulong) : 0);
        return Set(ref displaced, Arm64Operation.Load, Arm64Form.Literal);
    }

    private static bool TrySetMoveWide(Arm64Word word, ref DisplacedInstruction displaced)
    {
        uint opc = word.Bits(30, 29);
        if (opc == 1 || (!word.Sf && word.Hw >= 2))
        {
            return false;
        }

        displaced.Destination = OrZero(word.Rd);
        displaced.Size = SizeOf(word.Sf);
        displaced.Scale = (byte)(word.Hw * 16);
        ulong immediate = (ulong)word.Imm16 << displaced.Scale;
        if (opc == 3)
        {
            displaced.Immediate = immediate;
            return Set(ref displaced, Arm64Operation.MoveKeep, Arm64Form.Immediate);
        }

        immediate = opc == 0 ? ~immediate : immediate;
        displaced.Immediate = word.Sf ? immediate : (uint)immediate;
        return Set(ref displaced, Arm64Operation.SetImmediate, Arm64Form.Immediate);
    }

    private static bool SetAddSubtractImmediate(Arm64Word word, ref DisplacedInstruction displaced)
    {
        // Register 31 is the stack pointer, but for the destination of a comparison.
        displaced.Source = (byte)word.Rn;
        displaced.Destination = word.S ? OrZero(word.Rd) : (byte)word.Rd;
        displaced.Size = SizeOf(word.Sf);
        displaced.Immediate = (ulong)word.Imm12 << (word.Bit(22) ? 12 : 0);
        return Set(ref displaced, AddOrSubtract(word), Arm64Form.Immediate);
    }

    private static bool TrySetAddSubtractShifted(Arm64Word word, ref DisplacedInstruction displaced)
    {
        if (word.Shift == 3 || !TrySetShifted(word, ref displaced))
        {
            return false;
        }

        return Set(ref displaced, AddOrSubtract(word), Arm64Form.ShiftedRegister);
    }

    private static bool TrySetLogicalShifted(Arm64Word word, ref DisplacedInstruction displaced)
    {
        if (!TrySetShifted(word, ref displaced))
        {
            return false;
        }

        Arm64Operation operation = word.Bits(30, 29) switch
        {
            0 => Arm64Operation.And,
            1 => Arm64Operation.Or,
            2 => Arm64Operation.ExclusiveOr,
            _ => Arm64Operation.AndSetFlags,
        };
        return Set(ref displaced, operation, word.Bit(21) ? Arm64Form.InvertedRegister : Arm64Form.ShiftedRegister);
    }

    private static bool TrySetShifted(Arm64Word word, ref DisplacedInstruction displaced)
    {
        if (!word.Sf && word.Imm6 >= 32)
        {
            return false;
        }

        displaced.Destination = OrZero(word.Rd);
        displaced.Source = OrZero(word.Rn);
        displaced.Index = OrZero(word.Rm);
        displaced.Size = SizeOf(word.Sf);
        displaced.Scale = (byte)word.Imm6;
        displaced.Condition = (byte)word.Shift;
        return true;
    }

    private static Arm64Operation AddOrSubtract(Arm64Word word) => (word.Bit(30), word.S) switch
    {
        (false, false) => Arm64Operation.Add,
        (false, true) => Arm64Operation.AddSetFlags,
        (true, false) => Arm64Operation.Subtract,
        _ => Arm64Operation.SubtractSetFlags,
    };
}
