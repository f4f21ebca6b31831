namespace FastTrap.Engine;

/// <summary>The enablings of a tracer that are alive, and the sums of those that have ended: what the metrics show. Thread-safe; one leaf lock.</summary>
internal sealed class EnablingRoster
{
    private readonly RankedLock _lock = new(LockRank.Leaf);
    private readonly HashSet<ProbeEnabling> _enablings = [];

    /// <summary>Their members count hits, and drop none: what is dropped is their common buffer's.</summary>
    private readonly HashSet<StandingEnabling> _standing = [];
    private long _endedHits;
    private long _endedLost;
    private long _refused;

    public void Add(ProbeEnabling enabling)
    {
        using (_lock.Enter())
        {
            _enablings.Add(enabling);
        }
    }

    /// <summary>An enabling has ended: its counts do not change any more.</summary>
    public void Remove(ProbeEnabling enabling)
    {
        using (_lock.Enter())
        {
            if (_enablings.Remove(enabling))
            {
                _endedHits += enabling.HitCount;
                _endedLost += enabling.LostHits;
            }
        }
    }

    public void Add(StandingEnabling standing)
    {
        using (_lock.Enter())
        {
            _standing.Add(standing);
        }
    }

    /// <summary>A standing enabling has ended, and all its members have.</summary>
    public void Remove(StandingEnabling standing)
    {
        using (_lock.Enter())
        {
            if (_standing.Remove(standing))
            {
                _endedLost += standing.LostHits;
            }
        }
    }

    /// <summary>Probes were refused.</summary>
    public void CountRefused(int count) => Interlocked.Add(ref _refused, count);

    public (long Hits, long Lost, long Refused) Totals
    {
        get
        {
            using (_lock.Enter())
            {
                long hits = _endedHits;
                long lost = _endedLost;
                foreach (ProbeEnabling enabling in _enablings)
                {
                    hits += enabling.HitCount;
                    lost += enabling.LostHits;
                }

                foreach (StandingEnabling standing in _standing)
                {
                    lost += standing.LostHits;
                }

                return (hits, lost, Interlocked.Read(ref _refused));
            }
        }
    }
}
