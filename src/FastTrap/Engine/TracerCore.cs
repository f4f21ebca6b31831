using FastTrap.Native;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace FastTrap.Engine;

/// <summary>What all processes of a tracer share: the registry of probes, the tables of providers and procs, the cleaner, the platform, the log. Thread-safe.</summary>
/// <remarks>
/// Scheme. Each part has locks of its own, in the order of <see cref="LockRank"/>. Enablings are made on control threads, the cleaner removes on its own thread.
/// Source: fasttrap.c, the module's globals, fasttrap_load and fasttrap_unload.
/// </remarks>
internal sealed class TracerCore
{
    private readonly RankedLock _lock = new(LockRank.Leaf);
    private bool _isClosed;
    private long _enabledTracepoints;

    public TracerCore(IPlatform platform, TracerOptions options)
    {
        Platform = platform;
        Options = options;
        Logger = options.LoggerFactory?.CreateLogger("FastTrap") ?? NullLogger.Instance;
        Registry = new ProbeRegistry(options.MaximumTracepoints);
        Procs = new ProcTable(options.ProcTableSize);
        Providers = new ProviderTable(Registry, Procs, Barrier, options.ProviderTableSize);
        Cleaner = new Cleaner(Providers.Sweep, Cleaner.DefaultInterval);
        Providers.CleanupWanted = Cleaner.Kick;
        Meta = new MetaProvider(Providers, Registry);
        EngineMetrics.Add(this);
    }

    public IPlatform Platform { get; }

    public TracerOptions Options { get; }

    public ILogger Logger { get; }

    public ProbeRegistry Registry { get; }

    public ProcTable Procs { get; }

    public ProviderTable Providers { get; }

    public GenerationBarrier Barrier { get; } = new();

    public Cleaner Cleaner { get; }

    /// <summary>By which others give processes providers of their own.</summary>
    public MetaProvider Meta { get; }

    public EnablingRoster Enablings { get; } = new();

    /// <summary>Instructions that hold a trap, over all processes.</summary>
    public long EnabledTracepoints => Volatile.Read(ref _enabledTracepoints);

    /// <summary>A trap was written (1) or removed (-1).</summary>
    public void CountTracepoints(int change) => Interlocked.Add(ref _enabledTracepoints, change);

    /// <summary>Whether new providers are refused: the tracer is being shut down.</summary>
    public bool IsClosed
    {
        get
        {
            using (_lock.Enter())
            {
                return _isClosed;
            }
        }
    }

    /// <summary>Shuts the engine for new enablings. False, and nothing changed, if a provider is in use.</summary>
    public bool TryClose()
    {
        SetClosed(true);

        // Whoever holds a provider from now on sees that it is shut. What is retired is in nobody's way.
        bool isUsed = Providers.All().Exists(p => !p.IsRetired && p.IsInUse);
        if (isUsed)
        {
            SetClosed(false);
        }

        return !isUsed;
    }

    private void SetClosed(bool value)
    {
        using (_lock.Enter())
        {
            _isClosed = value;
        }
    }
}
