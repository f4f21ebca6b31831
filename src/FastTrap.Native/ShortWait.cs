using System.Diagnostics;

namespace FastTrap.Native;

/// <summary>
/// A wait for what comes in some microseconds as a rule, while threads of the target may stand, by asking again and again: at first the CPU is kept, then it is given away in short sleeps. Never by sched_yield: on busy CPUs that costs a whole slice of
/// the scheduler, some milliseconds; who sleeps has his turn when he wakes. (Where nobody stands, and what comes is made on this very CPU, as between two hits, sched_yield is the better one.)
/// </summary>
internal struct ShortWait
{
    private const int SpinUnit = 20;
    private const int ShortSleep = 1;
    private const int LongSleep = 200_000;

    /// <summary>Some times as long as a thread takes on another CPU to go on and to stop again; less than a sleep takes, for what is waited for may need this CPU.</summary>
    private static readonly long s_spinTicks = Environment.ProcessorCount == 1 ? 0 : Stopwatch.Frequency / 50_000;
    private static readonly long s_longTicks = Stopwatch.Frequency / 10;

    private long _start;

    /// <summary>To be called each time when what is waited for was not there. The kernel adds its slack of timers to a sleep, 50 microseconds as a rule.</summary>
    public void Next()
    {
        long now = Stopwatch.GetTimestamp();
        _start = _start == 0 ? now : _start;
        if (now - _start < s_spinTicks)
        {
            Thread.SpinWait(SpinUnit);
            return;
        }

        // A signal ends it early, which does no harm.
        LibC.SleepNanoseconds(now - _start < s_longTicks ? ShortSleep : LongSleep);
    }
}
