namespace FastTrap.Engine;

/// <summary>Lets what is made in great number grow old while it is being made. Any thread but the control thread, which would wait for a background collection that is under way: it has this done aside.</summary>
/// <remarks>
/// A garbage collection, which suspends the control thread wherever it comes, takes as long as what is young and lives: all that tens of thousands of probes need takes a tenth of a second, while threads may wait. So what is made is collected piece by
/// piece, each for the second time with the next one: it is old then, and in nobody's way.
/// </remarks>
internal static class Ageing
{
    /// <summary>What is less is not collected: a collection costs about a millisecond.</summary>
    public const int PieceLength = 4096;

    private const int MostCollections = 3;

    /// <summary>Whether so many were made that it is time to collect.</summary>
    public static bool IsDue(int count) => count != 0 && count % PieceLength == 0;

    /// <summary>To be called each time when one more was made.</summary>
    /// <param name="count">How many were made.</param>
    public static void OnMade(int count)
    {
        if (IsDue(count))
        {
            Collect();
        }
    }

    /// <summary>Collects until something is old, and with it all that was made before: before threads begin to wait.</summary>
    public static void Complete(object youngest)
    {
        // A collection may become a background one, by which nothing grows older.
        for (int i = 0; i < MostCollections && GC.GetGeneration(youngest) != GC.MaxGeneration; i++)
        {
            Collect();
        }
    }

    public static void Collect() => GC.Collect(GC.MaxGeneration - 1, GCCollectionMode.Forced, blocking: true);
}
