namespace FastTrap.Engine;

/// <summary>The probes of one process under one name: <c>pid42</c>. Control thread only.</summary>
/// <remarks>Source: fasttrap.c, fasttrap_provider_t.</remarks>
internal sealed class Provider(string name, Proc proc)
{
    /// <summary>A probe is known by its function's address, its name, and the function's name (aliases are probes of their own).</summary>
    private readonly Dictionary<(ulong Address, string Name, string Function), Probe> _probes = [];

    public string Name { get; } = name;

    public Proc Proc { get; } = proc;

    public int Count => _probes.Count;

    public bool TryGet(ulong functionAddress, string name, string function, out Probe? probe) =>
        _probes.TryGetValue((functionAddress, name, function), out probe);

    public void Add(Probe probe) => _probes.Add((probe.FunctionAddress, probe.Name, probe.Function), probe);

    /// <summary>Forgets a probe that nobody has enabled any more.</summary>
    public void Condense(Probe probe)
    {
        // Another library may have come to the same place, with a probe of the same name.
        (ulong, string, string) key = (probe.FunctionAddress, probe.Name, probe.Function);
        if (_probes.TryGetValue(key, out Probe? present) && present == probe)
        {
            _probes.Remove(key);
        }
    }
}
