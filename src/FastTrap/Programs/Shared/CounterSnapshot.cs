using FastTrap.Native;

namespace FastTrap.Programs.Shared;

/// <summary>Counters of all lanes, taken together. Any thread.</summary>
/// <remarks>
/// Exact while no thread of the target is in a program. Otherwise each word is one that it had at a moment between beginning and end, so that of two snapshots the later has no smaller count; two words may be of different moments.
/// </remarks>
internal static class CounterSnapshot
{
    /// <summary>The words of a sum: how many values, their sum, the least and the greatest.</summary>
    public const int SumWords = 4;

    /// <summary>What the counters of a sum begin with.</summary>
    public static ReadOnlySpan<ulong> EmptySum => [0, 0, unchecked((ulong)long.MaxValue), unchecked((ulong)long.MinValue)];

    /// <summary>Adds up words of the counters: counts, or the steps of a histogram.</summary>
    /// <param name="region">The region.</param>
    /// <param name="first">The first word of the counters.</param>
    /// <param name="totals">As many as are wanted; they wrap at 64 bits.</param>
    public static void Add(SharedRegion region, int first, Span<ulong> totals)
    {
        Check(region, first, totals.Length);
        totals.Clear();
        region.Memory.Hold();
        try
        {
            for (int lane = 0; lane <= region.Layout.LaneCount; lane++)
            {
                for (int i = 0; i < totals.Length; i++)
                {
                    totals[i] += Read(region, lane, first + i);
                }
            }
        }
        finally
        {
            region.Memory.Release();
        }
    }

    /// <summary>Takes the sums of all lanes together.</summary>
    public static LaneSum ReadSum(SharedRegion region, int first)
    {
        Check(region, first, SumWords);
        LaneSum total = new(0, 0, long.MaxValue, long.MinValue);
        region.Memory.Hold();
        try
        {
            for (int lane = 0; lane <= region.Layout.LaneCount; lane++)
            {
                total = new LaneSum(
                    total.Count + (long)Read(region, lane, first),
                    total.Sum + (long)Read(region, lane, first + 1),
                    Math.Min(total.Least, (long)Read(region, lane, first + 2)),
                    Math.Max(total.Greatest, (long)Read(region, lane, first + 3)));
            }
        }
        finally
        {
            region.Memory.Release();
        }

        return total;
    }

    private static ulong Read(SharedRegion region, int lane, int word) => Volatile.Read(ref region.Word(lane, LaneLayout.CountersStart + (word * sizeof(ulong))));

    private static void Check(SharedRegion region, int first, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((first + count) * sizeof(ulong), region.Layout.CountersLength, nameof(count));
    }
}

/// <summary>A sum over lanes.</summary>
/// <param name="Count">How many values.</param>
/// <param name="Sum">Their sum; it wraps at 64 bits.</param>
/// <param name="Least">The least; <see cref="long.MaxValue"/> of none.</param>
/// <param name="Greatest">The greatest; <see cref="long.MinValue"/> of none.</param>
internal readonly record struct LaneSum(long Count, long Sum, long Least, long Greatest);
