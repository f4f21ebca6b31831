namespace FastTrap.Isa.Arm64;

/// <summary>
/// The encoding tables of the Arm Architecture Reference Manual (C4.1, A64 instruction set encoding), as far as classes are told apart. The first row
/// that fits holds; every word fits one.
/// </summary>
internal static class Arm64Encodings
{
    /// <summary>Rows by bits 28 to 25 (op0 of the main table), so that few are looked at.</summary>
    private static readonly Row[][] s_groups = Group();

    /// <summary>The class of a word.</summary>
    public static Arm64Class Classify(Arm64Word word)
    {
        foreach (ref readonly Row row in s_groups[(word.Value >> 25) & 15].AsSpan())
        {
            if ((word.Value & row.Mask) == row.Value)
            {
                return row.Class;
            }
        }

        return Arm64Class.Unallocated;
    }

    private readonly record struct Row(uint Mask, uint Value, Arm64Class Class);

    private static Row[] Table() =>
    [
        // Reserved, SME, SVE; op0 0001 and 0011 are unallocated.
        new(0xffff_0000, 0x0000_0000, Arm64Class.PermanentlyUndefined),
        new(0x9e00_0000, 0x8000_0000, Arm64Class.Independent),
        new(0x1e00_0000, 0x0400_0000, Arm64Class.Independent),

        // Data processing (immediate). PC-relative addressing; add/subtract; AUTIxSPPC; move wide; the rest.
        new(0x1f00_0000, 0x1000_0000, Arm64Class.Address),
        new(0x1f80_0000, 0x1100_0000, Arm64Class.AddSubtractImmediate),
        new(0xff80_001f, 0xf380_001f, Arm64Class.PositionDependent),
        new(0x1f80_0000, 0x1280_0000, Arm64Class.MoveWide),
        new(0x1c00_0000, 0x1000_0000, Arm64Class.Independent),

        // Conditional branch (immediate): B.cond and BC.cond.
        new(0xff00_0000, 0x5400_0000, Arm64Class.BranchConditional),

        // Miscellaneous branch (immediate): RETAASPPC, RETABSPPC. Compare and branch of two registers, or with an immediate (FEAT_CMPBR).
        new(0xffc0_001f, 0x5500_001f, Arm64Class.PositionDependent),
        new(0x7e00_0000, 0x7400_0000, Arm64Class.PositionDependent),

        // Exception generation.
        new(0xffe0_001f, 0xd400_0001, Arm64Class.SystemCall),
        new(0xffe0_001f, 0xd400_0002, Arm64Class.ExceptionGenerating),
        new(0xffe0_001f, 0xd400_0003, Arm64Class.ExceptionGenerating),
        new(0xffe0_001f, 0xd420_0000, Arm64Class.Breakpoint),
        new(0xffe0_001f, 0xd440_0000, Arm64Class.ExceptionGenerating),
        new(0xffe0_001f, 0xd460_0000, Arm64Class.Independent),
        new(0xffe0_001c, 0xd4a0_0000, Arm64Class.ExceptionGenerating),

        // PACM arms the next instruction only. Hints; barriers with CLREX; system instructions, register moves, pairs.
        new(0xffff_ffff, 0xd503_24ff, Arm64Class.PositionDependent),
        new(0xffff_f01f, 0xd503_201f, Arm64Class.Hint),
        new(0xffff_f0ff, 0xd503_305f, Arm64Class.ClearExclusive),
        new(0xff80_0000, 0xd500_0000, Arm64Class.Independent),

        // Unconditional branch (register).
        new(0xffff_fc1f, 0xd61f_0000, Arm64Class.BranchRegister),
        new(0xffff_fc1f, 0xd63f_0000, Arm64Class.BranchLinkRegister),
        new(0xffff_fc1f, 0xd65f_0000, Arm64Class.Return),
        new(0xffff_f81f, 0xd61f_081f, Arm64Class.BranchAuthenticated),
        new(0xffff_f800, 0xd71f_0800, Arm64Class.BranchAuthenticated),
        new(0xffff_f81f, 0xd63f_081f, Arm64Class.BranchLinkAuthenticated),
        new(0xffff_f800, 0xd73f_0800, Arm64Class.BranchLinkAuthenticated),
        new(0xffff_fbff, 0xd65f_0bff, Arm64Class.ReturnAuthenticated),
        new(0xffff_fbe0, 0xd65f_0be0, Arm64Class.PositionDependent),
        new(0xffff_ffff, 0xd69f_03e0, Arm64Class.ExceptionReturn),
        new(0xffff_fbff, 0xd69f_0bff, Arm64Class.ExceptionReturn),
        new(0xffff_ffff, 0xd6bf_03e0, Arm64Class.ExceptionReturn),

        // Unconditional branch (immediate); compare and branch; test and branch.
        new(0xfc00_0000, 0x1400_0000, Arm64Class.Branch),
        new(0xfc00_0000, 0x9400_0000, Arm64Class.BranchLink),
        new(0x7e00_0000, 0x3400_0000, Arm64Class.CompareBranch),
        new(0x7e00_0000, 0x3600_0000, Arm64Class.TestBranch),

        // Loads and stores. Exclusive pair, exclusive register, both unprivileged (FEAT_LSUI); LDAR, CAS and CASP are none of them.
        new(0xbfe0_0000, 0x8860_0000, Arm64Class.LoadExclusive),
        new(0xbfe0_0000, 0x8820_0000, Arm64Class.StoreExclusive),
        new(0x3fe0_0000, 0x0840_0000, Arm64Class.LoadExclusive),
        new(0x3fe0_0000, 0x0800_0000, Arm64Class.StoreExclusive),
        new(0xbfe0_0000, 0x8940_0000, Arm64Class.LoadExclusive),
        new(0xbfe0_0000, 0x8900_0000, Arm64Class.StoreExclusive),

        // Memory copy and set: main and last parts (op1 01 and 10 of CPY; op1 11 with op2 01xx and 10xx of SET) work on what the part before them left,
        // and the kernel sends a thread which changed processors back to the first part, 4 or 8 bytes before.
        new(0x3be0_0c00, 0x1940_0400, Arm64Class.PositionDependent),
        new(0x3be0_0c00, 0x1980_0400, Arm64Class.PositionDependent),
        new(0x3be0_cc00, 0x19c0_4400, Arm64Class.PositionDependent),
        new(0x3be0_cc00, 0x19c0_8400, Arm64Class.PositionDependent),

        // Load register (literal); pairs (post-indexed, offset, pre-indexed; not the non-temporal ones); one register with imm9 or imm12.
        new(0x3b00_0000, 0x1800_0000, Arm64Class.LoadLiteral),
        new(0x3f80_0000, 0x2880_0000, Arm64Class.LoadStorePair),
        new(0x3f00_0000, 0x2900_0000, Arm64Class.LoadStorePair),
        new(0x3f20_0000, 0x3800_0000, Arm64Class.LoadStoreImmediate),
        new(0x3f00_0000, 0x3900_0000, Arm64Class.LoadStoreUnsignedImmediate),
        new(0x0a00_0000, 0x0800_0000, Arm64Class.Independent),

        // Data processing (register). PACxASPPC, AUTIxSPPCR; logical and add/subtract (shifted register); the rest.
        new(0xffff_8000, 0xdac1_8000, Arm64Class.PositionDependent),
        new(0x1f00_0000, 0x0a00_0000, Arm64Class.LogicalShifted),
        new(0x1f20_0000, 0x0b00_0000, Arm64Class.AddSubtractShifted),
        new(0x0e00_0000, 0x0a00_0000, Arm64Class.Independent),

        // Scalar floating-point and Advanced SIMD.
        new(0x0e00_0000, 0x0e00_0000, Arm64Class.Independent),
    ];

    private static Row[][] Group()
    {
        const uint Op0 = 15u << 25;
        Row[][] groups = new Row[16][];
        for (uint op0 = 0; op0 < groups.Length; op0++)
        {
            groups[op0] = [.. Table().Where(row => (((op0 << 25) ^ row.Value) & row.Mask & Op0) == 0)];
        }

        return groups;
    }
}
