namespace FastTrap.Engine;

/// <summary>The probes of one provider by their names: chains through the probes themselves, which cost a probe eight bytes and nothing else.</summary>
/// <remarks>
/// Guarded by the registry's lock. Aliases are probes of their own, and so are functions of one name at several addresses (static functions of several files).
/// Source: dtrace.c, the hashes of probes by module, function and name.
/// </remarks>
internal sealed class ProbeTable
{
    private Probe?[] _chains = new Probe?[16];

    public int Count { get; private set; }

    public void Add(Probe probe)
    {
        if (Count == _chains.Length)
        {
            Grow();
        }

        ref Probe? first = ref _chains[IndexOf(probe.Function, probe.Name)];
        probe.NextByName = first;
        first = probe;
        Count++;
    }

    /// <summary>Takes a probe out; false if it was not in.</summary>
    public bool Remove(Probe probe)
    {
        ref Probe? link = ref _chains[IndexOf(probe.Function, probe.Name)];
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
        for (Probe? probe = _chains[IndexOf(function, name)]; probe is not null; probe = probe.NextByName)
        {
            if ((functionAddress is null || probe.FunctionAddress == functionAddress) && probe.Name == name && probe.Function == function
                && isAfter == (probe.Kind == ProbeKind.PostOffset) && (module is null || probe.Module == module))
            {
                return probe;
            }
        }

        return null;
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

    private int IndexOf(string function, string name) => (HashCode.Combine(function, name)) & (_chains.Length - 1);

    private void Grow()
    {
        List<Probe> all = All();
        _chains = new Probe?[_chains.Length * 2];
        foreach (Probe probe in all)
        {
            ref Probe? first = ref _chains[IndexOf(probe.Function, probe.Name)];
            probe.NextByName = first;
            first = probe;
        }
    }
}
