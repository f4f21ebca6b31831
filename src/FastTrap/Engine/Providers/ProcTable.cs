using System.Numerics;

namespace FastTrap.Engine;

/// <summary>The procs of a tracer, by pid, in buckets. The living image of a pid is found; those that are defunct wait for the last who refers to them.</summary>
/// <remarks>
/// Scheme. Each bucket has a lock over its chain; under it an entry's lock. A new entry is made with no lock held and the chain looked through again.
/// Source: fasttrap.c, fasttrap_procs, fasttrap_proc_lookup and fasttrap_proc_release.
/// </remarks>
internal sealed class ProcTable
{
    private readonly Bucket[] _buckets;

    /// <param name="size">Buckets, rounded up to a power of two.</param>
    public ProcTable(int size)
    {
        _buckets = new Bucket[BitOperations.RoundUpToPowerOf2((uint)size)];
        for (int i = 0; i < _buckets.Length; i++)
        {
            _buckets[i] = new Bucket();
        }
    }

    public int Size => _buckets.Length;

    /// <summary>Entries, defunct ones included.</summary>
    public int Count
    {
        get
        {
            int count = 0;
            foreach (Bucket bucket in _buckets)
            {
                using (bucket.Lock.Enter())
                {
                    for (ProcEntry? entry = bucket.First; entry is not null; entry = entry.Next)
                    {
                        count++;
                    }
                }
            }

            return count;
        }
    }

    /// <summary>Called between the two laps, with no lock held; for tests of what may happen there.</summary>
    internal Action? BetweenLaps { get; set; }

    /// <summary>The entry of a process image, found or made, with one more who is active. To be given back by <see cref="Leave"/>.</summary>
    public ProcEntry Enter(ProcIdentity identity)
    {
        Bucket bucket = BucketOf(identity);
        using (bucket.Lock.Enter())
        {
            if (bucket.TryEnter(identity) is { } found)
            {
                return found;
            }
        }

        ProcEntry made = new(identity);
        BetweenLaps?.Invoke();
        using (bucket.Lock.Enter())
        {
            // Somebody may have made one meanwhile.
            if (bucket.TryEnter(identity) is { } found)
            {
                return found;
            }

            made.Next = bucket.First;
            bucket.First = made;
            return made;
        }
    }

    /// <summary>Gives back one reference, active until now or not; the last one takes the entry out.</summary>
    public void Leave(ProcEntry entry, bool wasActive)
    {
        if (wasActive)
        {
            entry.Deactivate();
        }

        if (!entry.Leave())
        {
            return;
        }

        Bucket bucket = BucketOf(entry.Identity);
        using (bucket.Lock.Enter())
        {
            if (bucket.First == entry)
            {
                bucket.First = entry.Next;
                return;
            }

            ProcEntry before = bucket.First!;
            while (before.Next != entry)
            {
                before = before.Next!;
            }

            before.Next = entry.Next;
        }
    }

    private Bucket BucketOf(ProcIdentity identity) => _buckets[identity.ProcessId & (_buckets.Length - 1)];

    private sealed class Bucket
    {
        public RankedLock Lock { get; } = new(LockRank.ProcBucket);

        public ProcEntry? First { get; set; }

        public ProcEntry? TryEnter(ProcIdentity identity)
        {
            for (ProcEntry? entry = First; entry is not null; entry = entry.Next)
            {
                if (entry.Identity == identity && entry.TryEnter())
                {
                    return entry;
                }
            }

            return null;
        }
    }
}
