using FastTrap.Native;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace FastTrap.Engine;

/// <summary>What all processes of a tracer share: ids, the limit on tracepoints, the platform, the log. Thread-safe.</summary>
/// <remarks>Source: fasttrap.c, the module's globals.</remarks>
internal sealed class TracerCore(IPlatform platform, TracerOptions options)
{
    private int _lastProbeId;
    private int _tracepoints;

    public IPlatform Platform { get; } = platform;

    public TracerOptions Options { get; } = options;

    public ILogger Logger { get; } = options.LoggerFactory?.CreateLogger("FastTrap") ?? NullLogger.Instance;

    public int NextProbeId() => Interlocked.Increment(ref _lastProbeId);

    /// <summary>Takes one from the limit on tracepoints; false when there is none left.</summary>
    public bool TryReserveTracepoint()
    {
        if (Interlocked.Increment(ref _tracepoints) <= Options.MaximumTracepoints)
        {
            return true;
        }

        Interlocked.Decrement(ref _tracepoints);
        return false;
    }

    public void ReleaseTracepoints(int count) => Interlocked.Add(ref _tracepoints, -count);
}
