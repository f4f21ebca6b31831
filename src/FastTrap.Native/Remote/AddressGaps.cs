namespace FastTrap.Native;

/// <summary>Where in an address space there is room near an address. Pure.</summary>
internal static class AddressGaps
{
    /// <summary>Lowest address tried: the usual vm.mmap_min_addr.</summary>
    public const ulong Lowest = 0x10000;

    /// <summary>First address behind user space with 47 bits, less a page; larger spaces are used on demand only.</summary>
    public const ulong HighestOfX64 = 0x7fff_ffff_f000;

    /// <summary>As <see cref="HighestOfX64"/>, with 48 bits. Kernels with fewer refuse what lies above.</summary>
    public const ulong HighestOfArm64 = 0xffff_ffff_f000;

    /// <summary>Left free below the stack, which grows down, and above the heap, which grows up.</summary>
    public const ulong GrowthMargin = 64 * 1024 * 1024;

    private const ulong PageLength = 0x1000;

    /// <summary>64 KiB: the largest page size of arm64, so that an address is good for any.</summary>
    private const ulong Alignment = 0x10000;

    /// <summary>
    /// Addresses at which a mapping would lie within reach, best first: below <paramref name="near"/> by distance, then above it.
    /// </summary>
    public static List<ulong> Find(IReadOnlyList<MemoryRegion> regions, ulong near, ulong reach, ulong length, ulong highest = HighestOfX64)
    {
        ulong low = Math.Max(Lowest, near > reach ? near - reach : 0);
        ulong high = Math.Min(highest, near < ulong.MaxValue - reach ? near + reach : ulong.MaxValue);
        List<ulong> below = [];
        List<ulong> above = [];
        ulong gapStart = 0;
        for (int i = 0; i <= regions.Count; i++)
        {
            ulong gapEnd = i < regions.Count ? regions[i].Start : ulong.MaxValue;
            if (i < regions.Count && regions[i].Path == "[stack]")
            {
                gapEnd -= Math.Min(gapEnd, GrowthMargin);
            }

            ulong start = AlignUp(Math.Max(gapStart, low));
            ulong end = Math.Min(gapEnd, high) & ~(PageLength - 1);
            if (end > start && end - start >= length)
            {
                // The end next to the address; the heap of a program grows into the gap above it, so those below come first.
                ulong top = (end - length) & ~(Alignment - 1);
                if (end <= near)
                {
                    below.Add(top);
                }
                else if (start >= near)
                {
                    above.Add(start);
                }
                else
                {
                    below.Add(Math.Max(start, Math.Min(top, near & ~(Alignment - 1))));
                }
            }

            if (i < regions.Count)
            {
                gapStart = regions[i].End;
                if (regions[i].Path == "[heap]")
                {
                    gapStart += GrowthMargin;
                }
            }
        }

        below.Reverse();
        return [.. below, .. above];
    }

    private static ulong AlignUp(ulong address) => (address + Alignment - 1) & ~(Alignment - 1);
}
