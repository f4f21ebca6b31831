using FastTrap.Engine;

namespace FastTrap.Tests.Engine;

/// <summary>The shared parts of an engine, without a process behind them.</summary>
internal sealed class EngineParts
{
    public EngineParts(int maximumTracepoints = 1000, int buckets = 4)
    {
        Registry = new ProbeRegistry(maximumTracepoints);
        Procs = new ProcTable(buckets);
        Providers = new ProviderTable(Registry, Procs, Barrier, buckets) { CleanupWanted = () => CleanupWanted++ };
        Meta = new MetaProvider(Providers, Registry);
    }

    public ProbeRegistry Registry { get; }

    public ProcTable Procs { get; }

    public ProviderTable Providers { get; }

    public GenerationBarrier Barrier { get; } = new();

    public MetaProvider Meta { get; }

    public int CleanupWanted { get; private set; }

    public static ProcIdentity Process42 { get; } = new(42, 1000);

    public Provider Hold(ProcEntry proc, string name = "pid", ProviderHold hold = ProviderHold.Creating) =>
        Providers.TryHold(proc, name, ProviderStability.Pid, hold)!;

    public Probe Create(Provider provider, string function = "f", string name = "entry", ulong address = 0x1000, int sites = 1) =>
        Registry.TryCreate(
            provider, "a.out", function, name, ProbeKind.Entry, address, 64, [.. Enumerable.Range(0, sites).Select(i => address + (ulong)i)], null)!;

    /// <summary>Enables a probe as a control thread does.</summary>
    public static void Enable(Probe probe)
    {
        probe.Enabled = new(new EnabledProbe(null!, probe));
        probe.Owner.OnProbeEnabled();
    }

    public bool Disable(Probe probe)
    {
        probe.Enabled = default;
        return probe.Owner.OnProbeDisabled(Barrier.Generation, Registry.IsHalfFull);
    }

    public int Sweep() => Providers.Sweep(TimeSpan.FromSeconds(10));
}
