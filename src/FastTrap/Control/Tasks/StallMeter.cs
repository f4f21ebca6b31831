using System.Diagnostics;

namespace FastTrap.Control;

/// <summary>
/// How long threads stand while something is changed in their process. Each stop begins when it is first known that it may have begun: at the last moment at which no report waited, or at which that thread went on. It ends when the kernel is
/// asked to let the thread go on, to which it may give the tracer's processor. So figures are upper bounds of what is the tracer's.
/// </summary>
/// <remarks>One writer, the control thread; any thread reads.</remarks>
internal sealed class StallMeter
{
    private long _longest;
    private long _total;
    private long _stops;

    public ProbeStall Stall => new(ToTime(Volatile.Read(ref _longest)), ToTime(Volatile.Read(ref _total)), Volatile.Read(ref _stops));

    /// <summary>A thread stood for so many ticks of <see cref="Stopwatch"/>.</summary>
    public void Add(long ticks)
    {
        Volatile.Write(ref _stops, _stops + 1);
        Volatile.Write(ref _total, _total + ticks);
        Volatile.Write(ref _longest, Math.Max(_longest, ticks));
    }

    private static TimeSpan ToTime(long ticks) => Stopwatch.GetElapsedTime(0, ticks);
}
