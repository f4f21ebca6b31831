namespace FastTrap.Tests.Isa.Arm64;

/// <summary>Random instruction words by encoding table of the Arm manual: fixed bits, and the rest at random.</summary>
internal sealed record Arm64Words(string Name, uint Mask, uint Value)
{
    public uint Next(Random random)
    {
        while (true)
        {
            uint word = ((uint)random.NextInt64() & ~Mask) | Value;
            if (!CrashesTheOracle(word))
            {
                return word;
            }
        }
    }

    /// <summary>Unallocated half-precision encodings at which Unicorn 2.0.1 aborts the process.</summary>
    private static bool CrashesTheOracle(uint word) => (word & 0x0f7e_0c00) == 0x0e78_0800 || (word & 0x0f60_c400) == 0x0e40_0400;

    /// <summary>What is emulated, at least in part.</summary>
    public static readonly Arm64Words[] Emulated =
    [
        new("B", 0xfc00_0000, 0x1400_0000),
        new("BL", 0xfc00_0000, 0x9400_0000),
        new("B.cond, BC.cond", 0xff00_0000, 0x5400_0000),
        new("CBZ, CBNZ", 0x7e00_0000, 0x3400_0000),
        new("TBZ, TBNZ", 0x7e00_0000, 0x3600_0000),
        new("BR", 0xffff_fc1f, 0xd61f_0000),
        new("BLR", 0xffff_fc1f, 0xd63f_0000),
        new("RET", 0xffff_fc1f, 0xd65f_0000),
        new("ADR, ADRP", 0x1f00_0000, 0x1000_0000),
        new("LDR literal, PRFM literal", 0x3f00_0000, 0x1800_0000),
        new("hints", 0xffff_f81f, 0xd503_201f),
        new("add/subtract immediate", 0x1f80_0000, 0x1100_0000),
        new("add/subtract shifted register", 0x1f20_0000, 0x0b00_0000),
        new("logical shifted register", 0x1f00_0000, 0x0a00_0000),
        new("move wide", 0x1f80_0000, 0x1280_0000),
        new("pair, post-index", 0x3f80_0000, 0x2880_0000),
        new("pair, offset", 0x3f80_0000, 0x2900_0000),
        new("pair, pre-index", 0x3f80_0000, 0x2980_0000),
        new("register, unscaled", 0x3f20_0c00, 0x3800_0000),
        new("register, post-index", 0x3f20_0c00, 0x3800_0400),
        new("register, pre-index", 0x3f20_0c00, 0x3800_0c00),
        new("register, unsigned offset", 0x3f00_0000, 0x3900_0000),
    ];

    /// <summary>What runs in slots: the rest of the tables of user programs.</summary>
    public static readonly Arm64Words[] Slotted =
    [
        new("PC-relative literal, vector", 0x3f00_0000, 0x1c00_0000),
        new("RETAA, RETAB", 0xffff_fbff, 0xd65f_0bff),
        new("BRAAZ, BRABZ", 0xffff_f81f, 0xd61f_081f),
        new("BRAA, BRAB", 0xffff_f800, 0xd71f_0800),
        new("BLRAAZ, BLRABZ", 0xffff_f81f, 0xd63f_081f),
        new("BLRAA, BLRAB", 0xffff_f800, 0xd73f_0800),
        new("logical immediate", 0x1f80_0000, 0x1200_0000),
        new("bitfield", 0x1f80_0000, 0x1300_0000),
        new("extract", 0x1f80_0000, 0x1380_0000),
        new("add/subtract extended register", 0x1f20_0000, 0x0b20_0000),
        new("add/subtract with carry", 0x1fe0_fc00, 0x1a00_0000),
        new("conditional compare", 0x1fe0_0000, 0x1a40_0000),
        new("conditional select", 0x1fe0_0000, 0x1a80_0000),
        new("two sources", 0x5fe0_0000, 0x1ac0_0000),
        new("one source", 0x5fe0_0000, 0x5ac0_0000),
        new("three sources", 0x1f00_0000, 0x1b00_0000),
        new("rotate, evaluate into flags", 0x1fe0_0000, 0x1a00_0000),
        new("multiple structures", 0xbfbf_0000, 0x0c00_0000),
        new("multiple structures, post-index", 0xbfa0_0000, 0x0c80_0000),
        new("single structure", 0xbf9f_0000, 0x0d00_0000),
        new("single structure, post-index", 0xbf80_0000, 0x0d80_0000),
        new("ordered, compare and swap", 0x3fa0_0000, 0x0880_0000),
        new("compare and swap", 0x3fa0_0000, 0x08a0_0000),
        new("compare and swap pair", 0xbfa0_0000, 0x0820_0000),
        new("ordered, unscaled", 0x3f20_0c00, 0x1900_0000),
        new("non-temporal pair", 0x3b80_0000, 0x2800_0000),
        new("vector pair", 0x3e00_0000, 0x2c00_0000),
        new("unprivileged", 0x3f20_0c00, 0x3800_0800),
        new("atomic memory operations", 0x3f20_0c00, 0x3820_0000),
        new("register offset", 0x3b20_0c00, 0x3820_0800),
        new("authenticated load", 0x3f20_0400, 0x3820_0400),
        new("vector register, imm9", 0x3f20_0000, 0x3c00_0000),
        new("vector register, unsigned offset", 0x3f00_0000, 0x3d00_0000),
        new("SIMD three same", 0x9f20_0400, 0x0e20_0400),
        new("floating point, two sources", 0x5f20_0c00, 0x1e20_0800),
        new("SIMD and floating point, the rest", 0x0e00_0000, 0x0e00_0000),
        new("barriers", 0xffff_f09f, 0xd503_309f),
        new("MRS of NZCV, FPCR, FPSR", 0xffff_f9c0, 0xd53b_4000),
        new("MRS of TPIDR", 0xffff_ffe0, 0xd53b_d040),
        new("MSR of NZCV", 0xffff_ffe0, 0xd51b_4200),
        new("CFINV, XAFLAG, AXFLAG", 0xffff_ff9f, 0xd500_401f),

        // What is not allocated, or only in recent versions.
        new("unprivileged exclusives and swaps", 0x3f00_0000, 0x0900_0000),
        new("structures, the rest", 0x3e00_0000, 0x0c00_0000),
        new("immediate with tags, minimum and maximum", 0x1f80_0000, 0x1180_0000),
        new("tags, 128-bit atomics", 0x3f20_0000, 0x1920_0000),
        new("ordered, with write-back", 0x3b20_0800, 0x1900_0800),
        new("ordered vector, unscaled", 0x3f20_0c00, 0x1d00_0000),
        new("ordered vector, the rest", 0x3f20_0000, 0x1d20_0000),
        new("vector atomics, register offset", 0x3f20_0000, 0x3c20_0000),
        new("data processing of registers, the rest", 0x1f20_0000, 0x1a20_0000),
        new("UDF", 0xffff_0000, 0x0000_0000),
    ];
}
