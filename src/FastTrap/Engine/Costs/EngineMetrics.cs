using System.Collections.Concurrent;
using System.Diagnostics.Metrics;

namespace FastTrap.Engine;

/// <summary>The meter <c>FastTrap</c>: sums over all tracers of this program, read from counts that are kept anyway. Nothing is done unless somebody listens.</summary>
/// <remarks>Thread-safe. Names and units are as OpenTelemetry has them.</remarks>
internal static class EngineMetrics
{
    private static readonly ConcurrentDictionary<TracerCore, bool> s_tracers = new();
    private static readonly Meter s_meter = new("FastTrap");
    private static long s_endedHits;
    private static long s_endedLost;
    private static long s_endedRefused;

    static EngineMetrics()
    {
        s_meter.CreateObservableCounter("fasttrap.hits", () => Sum().Hits, "{hit}", "Hits that passed their predicate.");
        s_meter.CreateObservableCounter("fasttrap.hits.dropped", () => Sum().Lost, "{hit}", "Hits dropped because a buffer was full.");
        s_meter.CreateObservableCounter("fasttrap.probes.refused", () => Sum().Refused, "{probe}", "Probes that matched and could not be enabled, or were withdrawn.");
        s_meter.CreateObservableUpDownCounter(
            "fasttrap.tracepoints.enabled", static () => s_tracers.Keys.Sum(t => t.EnabledTracepoints), "{tracepoint}", "Instructions that hold a trap.");
        s_meter.CreateObservableUpDownCounter("fasttrap.probes.registered", static () => s_tracers.Keys.Sum(t => (long)t.Registry.Count), "{probe}", "Probes that have a number.");
    }

    /// <summary>How long a thread of a target was stopped by a hit: from the kernel's report until it went on.</summary>
    public static Histogram<double> StopDuration { get; } =
        s_meter.CreateHistogram<double>("fasttrap.control.stop.duration", "s", "From the report of a hit until its thread went on: one turn of the control loop.");

    public static void Add(TracerCore tracer) => s_tracers.TryAdd(tracer, true);

    /// <summary>A tracer has ended; its counts stay in the sums.</summary>
    public static void Remove(TracerCore tracer)
    {
        if (s_tracers.TryRemove(tracer, out _))
        {
            (long hits, long lost, long refused) = tracer.Enablings.Totals;
            Interlocked.Add(ref s_endedHits, hits);
            Interlocked.Add(ref s_endedLost, lost);
            Interlocked.Add(ref s_endedRefused, refused);
        }
    }

    private static (long Hits, long Lost, long Refused) Sum()
    {
        (long Hits, long Lost, long Refused) sum = (Interlocked.Read(ref s_endedHits), Interlocked.Read(ref s_endedLost), Interlocked.Read(ref s_endedRefused));
        foreach (TracerCore tracer in s_tracers.Keys)
        {
            (long hits, long lost, long refused) = tracer.Enablings.Totals;
            sum = (sum.Hits + hits, sum.Lost + lost, sum.Refused + refused);
        }

        return sum;
    }
}
