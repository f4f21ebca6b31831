using FastTrap.Symbols;

namespace FastTrap.Engine;

/// <summary>The probes of one provider by their names: chains through the probes themselves, which cost a probe eight bytes and little else.</summary>
/// <remarks>
/// Guarded by the registry's lock. Aliases are probes of their own, and so are functions of one name at several addresses (static functions of several files).
/// Source: dtrace.c, the hashes of probes by module, function and name.
/// </remarks>
internal sealed class ProbeTable
{
    /// <summary>Probes in a chain, on average, when there are to be more chains.</summary>
    private const int ChainLength = 2;

    private Probe?[] _chains = new Probe?[16];
    private ProbeOrigin? _lastOrigin;

    public int Count { get; private set; }

    public void Add(Probe probe)
    {
        if (Count == _chains.Length * ChainLength)
        {
            Grow();
        }

        ref Probe? first = ref _chains[IndexOf(probe.NameHash)];
        probe.NextByName = first;
        first = probe;
        Count++;
    }

    /// <summary>Takes a probe out; false if it was not in.</summary>
    public bool Remove(Probe probe)
    {
        ref Probe? link = ref _chains[IndexOf(probe.NameHash)];
        while (link is not null)
        {
            if (link == probe)
            {
                link = probe.NextByName;
                probe.NextByName = null;
                Count--;
                return true;
            }

            link = ref link.NextByName;
        }

        return false;
    }

    /// <summary>The probe of a name; with an address, that of the function there.</summary>
    public Probe? Find(string? module, string function, string name, ulong? functionAddress, bool isAfter = false)
    {
        int hash = HashOf(function, name);
        for (Probe? probe = _chains[IndexOf(hash)]; probe is not null; probe = probe.NextByName)
        {
            if (probe.NameHash == hash && (functionAddress is null || probe.FunctionAddress == functionAddress) && probe.Name == name && probe.Function == function
                && isAfter == (probe.Kind == ProbeKind.PostOffset) && (module is null || probe.Module == module))
            {
                return probe;
            }
        }

        return null;
    }

    public static int HashOf(string function, string name) => HashCode.Combine(function, name);

    /// <summary>What the probes of a module share: it comes once for many of them, which are made in a row.</summary>
    public ProbeOrigin OriginOf(Provider provider, string module, SymbolTable? symbols)
    {
        if (_lastOrigin?.Is(module, symbols) != true)
        {
            _lastOrigin = new ProbeOrigin(provider, module, symbols);
        }

        return _lastOrigin;
    }

    public List<Probe> All()
    {
        List<Probe> all = new(Count);
        foreach (Probe? first in _chains)
        {
            for (Probe? probe = first; probe is not null; probe = probe.NextByName)
            {
                all.Add(probe);
            }
        }

        return all;
    }

    private int IndexOf(int hash) => hash & (_chains.Length - 1);

    private void Grow()
    {
        List<Probe> all = All();
        _chains = new Probe?[_chains.Length * 2];
        foreach (Probe probe in all)
        {
            ref Probe? first = ref _chains[IndexOf(probe.NameHash)];
            probe.NextByName = first;
            first = probe;
        }
    }
}
