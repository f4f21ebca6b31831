namespace FastTrap.Tool.Verbs;

/// <summary>
/// Sees to it that an event counts once. Overlapping descriptions, and the names of one function (aliases, an indirect function and its
/// implementation), all have a hit of their own at the same place: the first that is seen speaks for the others. For one process; its control
/// thread alone asks.
/// </summary>
internal sealed class EventOwners
{
    private readonly Dictionary<(ulong Function, string Name), (ProbeEnabling Enabling, Probe Probe)> _owners = [];

    /// <summary>Whether this hit is the one that counts.</summary>
    public bool IsOwner(in ProbeContext context)
    {
        Probe probe = context.Probe;
        (ulong, string) key = (probe.FunctionAddress, probe.Name);
        if (_owners.TryGetValue(key, out (ProbeEnabling Enabling, Probe Probe) owner))
        {
            return owner.Enabling == context.Enabling && owner.Probe == probe;
        }

        _owners.Add(key, (context.Enabling, probe));
        return true;
    }
}
