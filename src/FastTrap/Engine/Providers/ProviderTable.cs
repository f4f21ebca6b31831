using System.Numerics;
using System.Text;

namespace FastTrap.Engine;

/// <summary>The providers of a tracer, by pid and name, in buckets.</summary>
/// <remarks>
/// Scheme. A bucket's lock guards its chain; under it come the registry's lock and a provider's, in this order. A provider is found with a count
/// raised, so that it stays when the lock is dropped. A new one is made with no lock held, and the chain looked through again before it is
/// entered. <see cref="Sweep"/> is the cleaner's, on its thread.
/// Source: fasttrap.c, fasttrap_provs, fasttrap_provider_lookup, fasttrap_provider_retire, fasttrap_provider_free and fasttrap_pid_cleanup_cb.
/// </remarks>
internal sealed class ProviderTable
{
    /// <summary>Bytes of a provider's name, its end included.</summary>
    public const int NameCapacity = 64;

    /// <summary>Digits of the largest 32-bit number.</summary>
    private const int ProcessIdDigits = 10;

    private readonly ProbeRegistry _registry;
    private readonly ProcTable _procs;
    private readonly GenerationBarrier _barrier;
    private readonly Bucket[] _buckets;

    /// <param name="registry">Where their probes are.</param>
    /// <param name="procs">What they share.</param>
    /// <param name="barrier">What their removal waits for.</param>
    /// <param name="size">Buckets, rounded up to a power of two.</param>
    public ProviderTable(ProbeRegistry registry, ProcTable procs, GenerationBarrier barrier, int size)
    {
        _registry = registry;
        _procs = procs;
        _barrier = barrier;
        _buckets = new Bucket[BitOperations.RoundUpToPowerOf2((uint)size)];
        for (int i = 0; i < _buckets.Length; i++)
        {
            _buckets[i] = new Bucket();
        }
    }

    public int Size => _buckets.Length;

    /// <summary>Says that the cleaner should look.</summary>
    public Action? CleanupWanted { get; set; }

    /// <summary>Called between the two laps, with no lock held; for tests of what may happen there.</summary>
    internal Action? BetweenLaps { get; set; }

    /// <summary>Whether there is room for a pid behind a name.</summary>
    public static bool HasRoom(string baseName) => Encoding.UTF8.GetByteCount(baseName) + ProcessIdDigits < NameCapacity;

    /// <summary>All of them, retired ones included.</summary>
    public List<Provider> All()
    {
        List<Provider> all = [];
        foreach (Bucket bucket in _buckets)
        {
            using (bucket.Lock.Enter())
            {
                for (Provider? provider = bucket.First; provider is not null; provider = provider.Next)
                {
                    all.Add(provider);
                }
            }
        }

        return all;
    }

    /// <summary>
    /// The provider of a name, found or made, with a count raised; null if its process image has gone, or the name leaves no room for a pid. To be
    /// given back by <see cref="Release"/>.
    /// </summary>
    public Provider? TryHold(ProcEntry proc, string baseName, ProviderStability stability, ProviderHold hold)
    {
        Bucket bucket = BucketOf(proc.ProcessId, baseName);
        using (bucket.Lock.Enter())
        {
            if (bucket.Find(proc, baseName) is { } found)
            {
                found.Hold(hold);
                return found;
            }
        }

        if (!HasRoom(baseName) || !proc.TryEnter())
        {
            return null;
        }

        Provider made = new(_registry, proc, baseName, stability);
        BetweenLaps?.Invoke();
        bool isKept = false;
        try
        {
            using (bucket.Lock.Enter())
            {
                // Somebody may have made one meanwhile, or the process image may have gone.
                if (bucket.Find(proc, baseName) is { } found)
                {
                    found.Hold(hold);
                    return found;
                }

                if (proc.IsClosed)
                {
                    return null;
                }

                _registry.Register(made);
                made.Next = bucket.First;
                bucket.First = made;
                made.Hold(hold);
                isKept = true;
                return made;
            }
        }
        finally
        {
            if (!isKept)
            {
                _procs.Leave(proc, wasActive: true);
            }
        }
    }

    /// <summary>Gives a count back. A provider that was retired meanwhile is looked after.</summary>
    public void Release(Provider provider, ProviderHold hold)
    {
        if (provider.Release(hold))
        {
            provider.Mark();
            CleanupWanted?.Invoke();
        }
    }

    /// <summary>
    /// One provider's time is over: it is not found any more, and removed as soon as nobody uses it. With <paramref name="byMeta"/>, one of the meta providers behind it
    /// has gone, and it stays while there is another.
    /// </summary>
    public bool Retire(ProcEntry proc, string baseName, bool byMeta)
    {
        Bucket bucket = BucketOf(proc.ProcessId, baseName);
        using (bucket.Lock.Enter())
        {
            if (bucket.Find(proc, baseName) is not { } provider || !provider.TryRetire(byMeta))
            {
                return false;
            }

            proc.Deactivate();
            _registry.Invalidate(provider);
        }

        CleanupWanted?.Invoke();
        return true;
    }

    /// <summary>The address space is gone: all providers of the image are retired, and nothing of them is enabled.</summary>
    public void RetireAll(ProcEntry proc)
    {
        proc.CloseForNew();
        foreach (Bucket bucket in _buckets)
        {
            using (bucket.Lock.Enter())
            {
                for (Provider? provider = bucket.First; provider is not null; provider = provider.Next)
                {
                    if (provider.Proc != proc)
                    {
                        continue;
                    }

                    provider.OnAddressSpaceGone(_barrier.Generation);
                    if (provider.TryRetire(byMeta: false))
                    {
                        proc.Deactivate();
                        _registry.Invalidate(provider);
                    }
                }
            }
        }

        CleanupWanted?.Invoke();
    }

    /// <summary>
    /// Tries to remove the marked providers, or to forget those of their probes that nobody has enabled if more than half of the limit is in use. Returns how many must be
    /// tried again. Not on a control thread.
    /// </summary>
    public int Sweep(TimeSpan patience)
    {
        // With no lock held, and before all: what was changed until now is nobody's then.
        _ = _barrier.Wait(_barrier.Generation, patience);
        int later = 0;
        foreach (Bucket bucket in _buckets)
        {
            using (bucket.Lock.Enter())
            {
                Provider? before = null;
                for (Provider? provider = bucket.First; provider is not null; provider = provider.Next)
                {
                    if (!provider.TryBeginClean() || !TryRemove(provider, ref later))
                    {
                        before = provider;
                        continue;
                    }

                    bucket.Unlink(provider, before);
                    Free(provider);
                }
            }
        }

        return later;
    }

    /// <summary>
    /// Forgets all probes that nobody has enabled, to make room under the limit; true if that freed any. <paramref name="own"/> is the caller's, on its control thread, and
    /// being created in by the caller alone.
    /// </summary>
    public bool MakeRoom(ProcEntry own)
    {
        int before = _registry.Total;
        foreach (Bucket bucket in _buckets)
        {
            using (bucket.Lock.Enter())
            {
                for (Provider? provider = bucket.First; provider is not null; provider = provider.Next)
                {
                    if (provider.IsRetired)
                    {
                        // The cleaner frees it; its probes may go at once.
                        _ = _registry.Unregister(provider, _barrier);
                    }
                    else if (provider.MayCondense(provider.Proc == own ? 1 : 0))
                    {
                        _registry.Condense(provider);
                    }
                }
            }
        }

        CleanupWanted?.Invoke();
        return _registry.Total < before;
    }

    private bool TryRemove(Provider provider, ref int later)
    {
        UnregisterOutcome outcome = _registry.Unregister(provider, _barrier);
        if (outcome == UnregisterOutcome.Done)
        {
            return true;
        }

        if (_registry.IsHalfFull)
        {
            _registry.Condense(provider);
        }

        if (outcome == UnregisterOutcome.TryAgain)
        {
            provider.Mark();
        }

        later += provider.IsMarked ? 1 : 0;
        return false;
    }

    private void Free(Provider provider) => _procs.Leave(provider.Proc, wasActive: !provider.IsRetired);

    /// <summary>The name's hash of the reference: the well-known one of ELF symbol names.</summary>
    private Bucket BucketOf(int processId, string baseName)
    {
        uint hash = 0;
        foreach (char c in baseName)
        {
            hash = (hash << 4) + c;
            uint high = hash & 0xf0000000;
            hash ^= high >> 24;
            hash &= ~high;
        }

        return _buckets[(hash + (uint)processId) & (uint)(_buckets.Length - 1)];
    }

    private sealed class Bucket
    {
        public RankedLock Lock { get; } = new(LockRank.ProviderBucket);

        public Provider? First { get; set; }

        public Provider? Find(ProcEntry proc, string baseName)
        {
            for (Provider? provider = First; provider is not null; provider = provider.Next)
            {
                if (provider.Proc == proc && !provider.IsRetired && provider.BaseName == baseName)
                {
                    return provider;
                }
            }

            return null;
        }

        public void Unlink(Provider provider, Provider? before)
        {
            if (before is null)
            {
                First = provider.Next;
            }
            else
            {
                before.Next = provider.Next;
            }
        }
    }
}
