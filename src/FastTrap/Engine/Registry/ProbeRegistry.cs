namespace FastTrap.Engine;

/// <summary>
/// All probes of a tracer, of all its providers: created, found by number and by name, made invalid, forgotten. It holds the limit on tracepoints: a probe counts
/// with each of its instructions as long as it is registered, enabled or not.
/// </summary>
/// <remarks>
/// Scheme. One lock, taken for moments, by control threads (creation), the cleaner (unregister, condense) and users (look-up); under it a provider's
/// lock at most. Hits do not come here. A probe that is dropped stays valid for whoever has it; it is not found any more.
/// Source: dtrace.c as fasttrap.c uses it (dtrace_register, dtrace_probe_create, dtrace_probe_lookup, dtrace_invalidate, dtrace_unregister, dtrace_condense);
/// fasttrap.c, fasttrap_total, fasttrap_max and fasttrap_pid_destroy.
/// </remarks>
internal sealed class ProbeRegistry(int maximumTracepoints)
{
    private readonly RankedLock _lock = new(LockRank.Registry);
    private readonly HashSet<Provider> _providers = [];
    private readonly ProbePages _byId = new();
    private int _lastId;
    private int _total;

    /// <summary>Instructions of all registered probes.</summary>
    public int Total => Volatile.Read(ref _total);

    public int MaximumTracepoints { get; } = maximumTracepoints;

    /// <summary>Whether it is time to forget probes that nobody has enabled.</summary>
    public bool IsHalfFull => Total > MaximumTracepoints / 2;

    public int Count
    {
        get
        {
            using (_lock.Enter())
            {
                return _byId.Count;
            }
        }
    }

    public void Register(Provider provider)
    {
        using (_lock.Enter())
        {
            _providers.Add(provider);
        }
    }

    /// <summary>A registered probe, invalid or not; null if there is none of the number.</summary>
    public Probe? Find(int id)
    {
        using (_lock.Enter())
        {
            return id < 0 ? null : _byId.Find(id);
        }
    }

    /// <summary>A valid probe by its full name; of several functions of one name, any.</summary>
    public Probe? Find(string provider, string module, string function, string name)
    {
        using (_lock.Enter())
        {
            foreach (Provider candidate in _providers)
            {
                if (candidate.Name == provider && !candidate.IsInvalid && candidate.Probes.Find(module, function, name, null) is { } probe)
                {
                    return probe;
                }
            }

            return null;
        }
    }

    /// <summary>A probe of one provider. Null if there is none, or if the provider is invalid.</summary>
    public Probe? Find(Provider provider, string? module, string function, string name, ulong? functionAddress, bool isAfter = false)
    {
        using (_lock.Enter())
        {
            return provider.IsInvalid ? null : provider.Probes.Find(module, function, name, functionAddress, isAfter);
        }
    }

    /// <summary>Whether a probe can still be found.</summary>
    public bool Contains(Probe probe) => Find(probe.Id) == probe;

    public List<Probe> ProbesOf(Provider provider)
    {
        using (_lock.Enter())
        {
            return provider.Probes.All();
        }
    }

    /// <summary>Registers a probe, with a number of its own. Null, and nothing changed, if its instructions would exceed the limit.</summary>
    public Probe? TryCreate(
        Provider provider, string module, FunctionName function, string name, ProbeKind kind, ulong functionAddress, ulong functionLength, ulong[] sites,
        ProbeDetails? details)
    {
        int count = sites.Length + (details?.IsEnabledSites.Length ?? 0);
        ArgumentOutOfRangeException.ThrowIfZero(count);
        RequireUnique(sites);
        using (_lock.Enter())
        {
            if (count > MaximumTracepoints - _total)
            {
                return null;
            }

            Volatile.Write(ref _total, _total + count);
            Probe probe = new(++_lastId, provider.Probes.OriginOf(provider, module, function.Symbols), function, name, kind, functionAddress, functionLength, sites, details);
            provider.Probes.Add(probe);
            _byId.Add(probe);
            return probe;
        }
    }

    /// <summary>No probe of the provider is found by name any more; who has one keeps it.</summary>
    public void Invalidate(Provider provider)
    {
        using (_lock.Enter())
        {
            provider.IsInvalid = true;
        }
    }

    /// <summary>Forgets a provider and all its probes, unless some are enabled or are being created.</summary>
    public UnregisterOutcome Unregister(Provider provider, GenerationBarrier barrier)
    {
        using (_lock.Enter())
        {
            if (provider.IsInUse)
            {
                return UnregisterOutcome.InUse;
            }

            if (!barrier.IsPassed(provider.Generation))
            {
                return UnregisterOutcome.TryAgain;
            }

            foreach (Probe probe in provider.Probes.All())
            {
                Drop(probe);
            }

            provider.IsInvalid = true;
            _providers.Remove(provider);
            return UnregisterOutcome.Done;
        }
    }

    /// <summary>Forgets the probes of a provider that nobody has enabled. Returns how many. For whoever knows that none is being enabled meanwhile.</summary>
    public int Condense(Provider provider)
    {
        using (_lock.Enter())
        {
            int dropped = 0;
            foreach (Probe probe in provider.Probes.All())
            {
                if (probe.Enabled.IsEmpty)
                {
                    Drop(probe);
                    dropped++;
                }
            }

            return dropped;
        }
    }

    /// <summary>Forgets one probe that nobody has enabled.</summary>
    public void Forget(Probe probe)
    {
        using (_lock.Enter())
        {
            Drop(probe);
        }
    }

    /// <summary>A probe has one tracepoint at an address: two would fire twice.</summary>
    private static void RequireUnique(ulong[] sites)
    {
        for (int i = 1; i < sites.Length; i++)
        {
            if (sites[i] <= sites[i - 1] && Array.IndexOf(sites, sites[i]) < i)
            {
                throw new ArgumentException($"The instruction at 0x{sites[i]:x} is there twice.", nameof(sites));
            }
        }
    }

    private void Drop(Probe probe)
    {
        if (!probe.Owner.Probes.Remove(probe))
        {
            return;
        }

        _byId.Remove(probe);
        Volatile.Write(ref _total, _total - probe.SiteCount);
    }
}
