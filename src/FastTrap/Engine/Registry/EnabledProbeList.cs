namespace FastTrap.Engine;

/// <summary>The probes of one enabling: eight bytes each, found by their numbers.</summary>
/// <remarks>
/// Changed by the control thread under the enabling's gate; read by others under the gate, by the control thread without. Entries are never moved within an array: putting them in order makes
/// a new one, so that who goes through the old one is not disturbed.
/// </remarks>
internal sealed class EnabledProbeList
{
    private EnabledProbe[] _items = [];
    private int _count;
    private int _withdrawn;
    private bool _isUnordered;

    public int Count => _count - _withdrawn;

    public void Add(EnabledProbe enabled)
    {
        if (_withdrawn != 0)
        {
            Trim();
        }

        if (_count == _items.Length)
        {
            Array.Resize(ref _items, Math.Max(4, _count * 2));
        }

        _isUnordered |= _count != 0 && _items[_count - 1].Probe.Id > enabled.Probe.Id;
        _items[_count++] = enabled;
    }

    /// <summary>Takes one out: it is passed over from now on.</summary>
    public void Remove(EnabledProbe enabled)
    {
        if (!enabled.IsWithdrawn)
        {
            enabled.IsWithdrawn = true;
            _withdrawn++;
        }
    }

    /// <summary>Gives back what is more than needed.</summary>
    public void Trim()
    {
        if (_items.Length != Count)
        {
            _items = [.. All()];
            _count = _items.Length;
            _withdrawn = 0;
        }
    }

    /// <summary>What a probe is in this enabling; null if it is not in it.</summary>
    public EnabledProbe? Find(Probe probe)
    {
        if (_isUnordered)
        {
            EnabledProbe[] ordered = [.. _items.AsSpan(0, _count)];
            Array.Sort(ordered, static (a, b) => a.Probe.Id.CompareTo(b.Probe.Id));
            _items = ordered;
            _isUnordered = false;
        }

        int low = 0;
        int high = _count;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (_items[middle].Probe.Id < probe.Id)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low < _count && _items[low] is { IsWithdrawn: false } found && found.Probe == probe ? found : null;
    }

    /// <summary>Those that are in it, as it is when the first is asked for.</summary>
    public IEnumerable<EnabledProbe> All()
    {
        int count = _count;
        EnabledProbe[] items = _items;
        for (int i = 0; i < count; i++)
        {
            if (!items[i].IsWithdrawn)
            {
                yield return items[i];
            }
        }
    }
}
