using System.Runtime.Intrinsics.X86;

namespace FastTrap.Native;

/// <summary>What differs between processors of one architecture. The target runs on the tracer's.</summary>
internal static class Processor
{
    /// <summary>
    /// Whether an operand-size prefix before a near branch means nothing in 64-bit mode, as with Intel; with AMD it cuts the target to 16 bits. False where
    /// it is not known.
    /// </summary>
    public static bool IgnoresOperandSizeOfBranches { get; } = HasVendor(0x756e_6547, 0x4965_6e69, 0x6c65_746e);

    /// <summary>Whether a prefix F2 or F3 before LOOPE and LOOPNE decides which of the two it is, as with AMD; elsewhere it means nothing.</summary>
    public static bool RepeatDecidesLoops { get; } = IsAmd;

    /// <summary>Whether a call to an impossible address leaves the stack as it was, as with AMD; elsewhere the return address is there.</summary>
    public static bool LooksAtTargetFirst { get; } = IsAmd;

    /// <summary>Whether an address has to be possible before the base of its segment is added, too, as with AMD.</summary>
    public static bool LooksAtOffsets { get; } = IsAmd;

    /// <summary>Whether the places of the last x87 instruction and its operand are lost with each switch of threads while no exception is pending, as with AMD.</summary>
    public static bool LosesFpuPlaces { get; } = IsAmd;

    /// <summary>Bits of a virtual address, its sign included: 57 with five levels of page tables, which the kernel uses or does not; else 48.</summary>
    public static int AddressBits { get; } = HasFiveLevels() ? 57 : 48;

    private static bool IsAmd => HasVendor(0x6874_7541, 0x6974_6e65, 0x444d_4163) || HasVendor(0x6f67_7948, 0x6e65_476e, 0x656e_6975);

    private static bool HasFiveLevels()
    {
        const int LargeAddresses = 1 << 16;
        return X86Base.IsSupported && X86Base.CpuId(0, 0).Eax >= 7 && (X86Base.CpuId(7, 0).Ecx & LargeAddresses) != 0
            && File.ReadLines("/proc/cpuinfo").Any(static line => line.StartsWith("flags", StringComparison.Ordinal) && line.Contains(" la57", StringComparison.Ordinal));
    }

    private static bool HasVendor(int ebx, int edx, int ecx)
    {
        if (!X86Base.IsSupported)
        {
            return false;
        }

        (_, int b, int c, int d) = X86Base.CpuId(0, 0);
        return b == ebx && d == edx && c == ecx;
    }
}
