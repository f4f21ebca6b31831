namespace FastTrap.Symbols;

/// <summary>A function of a perf map; its name stands in the map's names.</summary>
internal readonly record struct PerfMapEntry(ulong Start, ulong End, int NameOffset, int NameLength)
{
    private static readonly Comparer<PerfMapEntry> s_byStart = Comparer<PerfMapEntry>.Create((a, b) => a.Start.CompareTo(b.Start));

    /// <summary>Takes out entries which a later one overlaps: their memory has been used for something else since. Order is kept.</summary>
    public static List<PerfMapEntry> RemoveReplaced(List<PerfMapEntry> entries)
    {
        if (!HasOverlap(entries))
        {
            return entries;
        }

        // The live set never overlaps, so the only candidates for a new range are at and before its end.
        SortedSet<PerfMapEntry> live = new(s_byStart);
        foreach (PerfMapEntry entry in entries)
        {
            PerfMapEntry lowest = new(0, 0, 0, 0);
            PerfMapEntry highest = new(entry.End - 1, 0, 0, 0);
            SortedSet<PerfMapEntry> before = live.GetViewBetween(lowest, highest);
            // Asking the view for its count would walk it; the maximum of an empty one ends at 0.
            while (before.Max is var last && last.End > entry.Start)
            {
                live.Remove(last);
            }

            live.Add(entry);
        }

        return entries.FindAll(e => live.TryGetValue(e, out PerfMapEntry alive) && alive == e);
    }

    private static bool HasOverlap(List<PerfMapEntry> entries)
    {
        PerfMapEntry[] sorted = [.. entries];
        Array.Sort(sorted, s_byStart);
        for (int i = 1; i < sorted.Length; i++)
        {
            if (sorted[i].Start < sorted[i - 1].End)
            {
                return true;
            }
        }

        return false;
    }
}
