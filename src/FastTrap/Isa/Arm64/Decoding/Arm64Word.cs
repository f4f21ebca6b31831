namespace FastTrap.Isa.Arm64;

/// <summary>One A64 instruction word and its fields, named as in the Arm Architecture Reference Manual, chapter C4. A value.</summary>
internal readonly record struct Arm64Word(uint Value)
{
    /// <summary>The number by which encodings name the zero register, or the stack pointer.</summary>
    public const int ZeroOrStackPointer = 31;

    public int Rd => (int)(Value & 31);

    public int Rt => (int)(Value & 31);

    public int Rn => (int)(Value >> 5) & 31;

    public int Rt2 => (int)(Value >> 10) & 31;

    public int Rm => (int)(Value >> 16) & 31;

    /// <summary>The modifier of an authenticated branch, in bits 4 to 0.</summary>
    public int BranchRm => (int)(Value & 31);

    /// <summary>64-bit registers are meant.</summary>
    public bool Sf => Bit(31);

    /// <summary>The flags are set (bit 29 of arithmetic with an immediate or shifted operand).</summary>
    public bool S => Bit(29);

    /// <summary>Whether a load or store is of vector registers.</summary>
    public bool VR => Bit(26);

    /// <summary>A load, not a store, in the tables that have it in bit 22.</summary>
    public bool L => Bit(22);

    /// <summary>Key B, not A, of a pointer authentication.</summary>
    public bool M => Bit(10);

    /// <summary>The condition of a conditional branch.</summary>
    public int Cond => (int)(Value & 15);

    public int Imm12 => (int)Bits(21, 10);

    public int Imm6 => (int)Bits(15, 10);

    public int Imm16 => (int)Bits(20, 5);

    public int Hw => (int)Bits(22, 21);

    public int Shift => (int)Bits(23, 22);

    public long Imm7 => Signed(21, 15);

    public long Imm9 => Signed(20, 12);

    /// <summary>The offset of a branch with imm14, in bytes.</summary>
    public long Imm14Offset => Signed(18, 5) * 4;

    /// <summary>The offset of a branch or literal load with imm19, in bytes.</summary>
    public long Imm19Offset => Signed(23, 5) * 4;

    /// <summary>The offset of a branch with imm26, in bytes.</summary>
    public long Imm26Offset => Signed(25, 0) * 4;

    /// <summary>immhi:immlo of ADR and ADRP.</summary>
    public long ImmHiLo => (Signed(23, 5) << 2) | Bits(30, 29);

    public bool Bit(int number) => ((Value >> number) & 1) != 0;

    public uint Bits(int high, int low) => (Value >> low) & ((1u << (high - low + 1)) - 1);

    private long Signed(int high, int low) => (int)(Value << (31 - high)) >> (31 - high + low);
}
