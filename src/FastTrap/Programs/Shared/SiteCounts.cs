using System.Numerics;

namespace FastTrap.Programs.Shared;

/// <summary>Counters of sites, one for each number of a site in each lane. Any thread.</summary>
/// <remarks>Lanes that nobody owns are not looked at: a look would give them memory.</remarks>
internal static class SiteCounts
{
    private const int Least = 4096;
    private const int Most = 1 << 17;

    /// <summary>How many counters a lane gets.</summary>
    public static int CapacityFor(int sites) => (int)Math.Clamp(BitOperations.RoundUpToPowerOf2((uint)sites + ((uint)sites / 4)), Least, Most);

    /// <summary>The hits of the first sites, summed over the lanes.</summary>
    public static ulong[] Read(SharedRegion region, int sites)
    {
        ulong[] totals = new ulong[sites];
        region.Memory.Hold();
        try
        {
            for (int lane = 0; lane <= region.Layout.LaneCount; lane++)
            {
                if (lane != region.Layout.LaneCount && Volatile.Read(ref region.Word(lane, LaneLayout.OwnerOffset)) == 0)
                {
                    continue;
                }

                for (int i = 0; i < totals.Length; i++)
                {
                    totals[i] += Volatile.Read(ref region.Word(lane, LaneLayout.CountersStart + (i * sizeof(ulong))));
                }
            }
        }
        finally
        {
            region.Memory.Release();
        }

        return totals;
    }

    public static long Sum(ulong[] counts)
    {
        ulong sum = 0;
        foreach (ulong count in counts)
        {
            sum += count;
        }

        return (long)sum;
    }
}
