using FastTrap.Native;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap.Programs;

/// <summary>How ticks become nanoseconds in code that is made now. Any thread; one clock for all, which becomes better the longer it is asked.</summary>
internal static class TickClock
{
    private static readonly Lock s_gate = new();
    private static CounterClock? s_clock;

    /// <summary>The scale; null if the counter cannot be read.</summary>
    public static TickScale? Read(IPlatform platform)
    {
        if (platform.ReadClocks(out _) != Errno.None)
        {
            return null;
        }

        lock (s_gate)
        {
            s_clock ??= new CounterClock(platform);
            ulong now = s_clock.Now();
            long ns = s_clock.ToNanoseconds(now);
            return s_clock.TicksPerNanosecond is > 0 and double rate ? new TickScale(now, (ulong)(4_294_967_296.0 / rate), ns) : null;
        }
    }
}
