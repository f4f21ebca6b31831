namespace FastTrap.Isa.Arm64;

/// <summary>The operands of loads and stores of general registers with an immediate offset. What is unpredictable is left to the processor, in a slot.</summary>
internal static class Arm64AccessDecoder
{
    public static bool TrySetAccess(Arm64Word word, Arm64Class @class, ref DisplacedInstruction displaced)
    {
        if (word.VR)
        {
            return false;
        }

        displaced.Base = (byte)word.Rn;
        displaced.Destination = Arm64OperandDecoder.OrZero(word.Rt);
        return @class == Arm64Class.LoadStorePair ? TrySetPair(word, ref displaced) : TrySetOne(word, @class, ref displaced);
    }

    private static bool TrySetPair(Arm64Word word, ref DisplacedInstruction displaced)
    {
        uint opc = word.Bits(31, 30);
        Arm64Form form = word.Bits(24, 23) switch
        {
            1 => Arm64Form.PostIndex,
            2 => Arm64Form.Offset,
            _ => Arm64Form.PreIndex,
        };

        // opc 01 is LDPSW; without L it stores with tags.
        if (opc == 3 || (opc == 1 && !word.L) || (word.L && word.Rt == word.Rt2) || IsWrittenBack(word, form, word.Rt) || IsWrittenBack(word, form, word.Rt2))
        {
            return false;
        }

        displaced.Index = Arm64OperandDecoder.OrZero(word.Rt2);
        displaced.Size = (byte)(opc == 2 ? sizeof(ulong) : sizeof(uint));
        displaced.SourceSize = (byte)(opc == 1 ? sizeof(ulong) : 0);
        displaced.Displacement = (ulong)(word.Imm7 * displaced.Size);
        return SetOperation(word.L, word.L ? Arm64Operation.LoadPair : Arm64Operation.StorePair, form, ref displaced);
    }

    private static bool TrySetOne(Arm64Word word, Arm64Class @class, ref DisplacedInstruction displaced)
    {
        int size = (int)word.Bits(31, 30);
        uint opc = word.Bits(23, 22);
        Arm64Form form = @class == Arm64Class.LoadStoreUnsignedImmediate ? Arm64Form.Offset : word.Bits(11, 10) switch
        {
            0 => Arm64Form.Offset,
            1 => Arm64Form.PostIndex,
            3 => Arm64Form.PreIndex,
            _ => Arm64Form.None,
        };

        if (size == 3 && opc == 2 && form == Arm64Form.Offset)
        {
            // PRFM, PRFUM.
            return Arm64OperandDecoder.Set(ref displaced, Arm64Operation.Nop, Arm64Form.None);
        }

        // The unprivileged ones; what is unallocated.
        if (form == Arm64Form.None || (opc >= 2 && size == 3) || (opc == 3 && size == 2) || IsWrittenBack(word, form, word.Rt))
        {
            return false;
        }

        displaced.Size = (byte)(1 << size);
        displaced.SourceSize = (byte)(opc < 2 ? 0 : opc == 2 ? sizeof(ulong) : sizeof(uint));
        displaced.Displacement = @class == Arm64Class.LoadStoreUnsignedImmediate ? (ulong)word.Imm12 << size : (ulong)word.Imm9;
        return SetOperation(opc != 0, opc != 0 ? Arm64Operation.Load : Arm64Operation.Store, form, ref displaced);
    }

    private static bool SetOperation(bool isLoad, Arm64Operation operation, Arm64Form form, ref DisplacedInstruction displaced)
    {
        displaced.Traits |= DisplacedTraits.SlotPreferred | (isLoad ? DisplacedTraits.ReadsMemory : DisplacedTraits.WritesMemory);
        return Arm64OperandDecoder.Set(ref displaced, operation, form);
    }

    /// <summary>A register that is transferred and is the base which is written back: constrained unpredictable.</summary>
    private static bool IsWrittenBack(Arm64Word word, Arm64Form form, int register) =>
        form != Arm64Form.Offset && register == word.Rn && register != Arm64Word.ZeroOrStackPointer;
}
