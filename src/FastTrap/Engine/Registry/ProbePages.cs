namespace FastTrap.Engine;

/// <summary>Probes by number. Numbers are given in order and never again, so pages hold them without a table's empty places. Guarded by the registry's lock.</summary>
internal sealed class ProbePages
{
    private const int PageLength = 256;

    private readonly Dictionary<int, Page> _pages = [];

    public int Count { get; private set; }

    public Probe? Find(int id) => _pages.TryGetValue(id / PageLength, out Page? page) ? page.Probes[id % PageLength] : null;

    public void Add(Probe probe)
    {
        if (!_pages.TryGetValue(probe.Id / PageLength, out Page? page))
        {
            page = new Page();
            _pages.Add(probe.Id / PageLength, page);
        }

        page.Probes[probe.Id % PageLength] = probe;
        page.Count++;
        Count++;
    }

    public void Remove(Probe probe)
    {
        Page page = _pages[probe.Id / PageLength];
        page.Probes[probe.Id % PageLength] = null;
        Count--;
        if (--page.Count == 0)
        {
            _pages.Remove(probe.Id / PageLength);
        }
    }

    private sealed class Page
    {
        public readonly Probe?[] Probes = new Probe?[PageLength];
        public int Count;
    }
}
