using FastTrap.Native;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap.Programs;

/// <summary>How ticks become nanoseconds in code that is made now. Any thread; one clock for all, which becomes better the longer it is asked.</summary>
internal static class TickClock
{
    /// <summary>The scale; null if the counter cannot be read.</summary>
    public static TickScale? Read(IPlatform platform)
    {
        if (platform.ReadClocks(out _) != Errno.None)
        {
            return null;
        }

        CounterClock clock = CounterClock.Of(platform);
        ulong now = clock.Now();
        long ns = clock.ToNanoseconds(now);
        return clock.TicksPerNanosecond is > 0 and double rate ? new TickScale(now, (ulong)(4_294_967_296.0 / rate), ns) : null;
    }
}
