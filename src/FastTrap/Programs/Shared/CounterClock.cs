using FastTrap.Native;

namespace FastTrap.Programs.Shared;

/// <summary>Turns ticks of the processor's time counter into nanoseconds of CLOCK_MONOTONIC.</summary>
/// <remarks>
/// One thread at a time. The two clocks are compared at the beginning, soon after, and then in ever longer distances up to a second, for one of them may be slewed. Between comparisons the clock is a straight line; each line begins where the one before has come to,
/// and leads to where it should have been, so that times never go back. Ticks of the past are turned by the lines of their time, as long as these are remembered.
/// </remarks>
internal sealed class CounterClock
{
    private const int MaximumLines = 64;
    private const long FirstDistanceNs = 1_000_000;
    private const long LargestDistanceNs = 1_000_000_000;

    private readonly Func<ClockSample> _read;
    private readonly Line[] _lines = new Line[MaximumLines];
    private int _count;
    private ClockSample _last;
    private long _distance = FirstDistanceNs;

    /// <exception cref="FastTrapException">The counter cannot be read.</exception>
    public CounterClock(IPlatform platform)
        : this(() => Read(platform))
    {
    }

    internal CounterClock(Func<ClockSample> read)
    {
        _read = read;
        _last = read();
        _lines[0] = new Line(_last.Counter, _last.Nanoseconds, 0);
    }

    /// <summary>Ticks of the counter for each nanosecond; 0 before the second comparison.</summary>
    public double TicksPerNanosecond => _count == 0 ? 0 : 1 / _lines[_count - 1].NsPerTick;

    /// <summary>The counter now. Compares the clocks if it is time to.</summary>
    public ulong Now()
    {
        ClockSample now = _read();
        if (now.Nanoseconds - _last.Nanoseconds >= _distance)
        {
            Compare(now);
        }

        return now.Counter;
    }

    /// <summary>Turns ticks into nanoseconds; of ticks that are later than others the time is not earlier.</summary>
    public long ToNanoseconds(ulong ticks)
    {
        while (_count == 0)
        {
            // Once, and not longer than the first distance.
            Now();
        }

        int line = _count - 1;
        while (line > 0 && (long)(ticks - _lines[line].Counter) < 0)
        {
            line--;
        }

        return _lines[line].At(ticks);
    }

    /// <summary>Adds a comparison.</summary>
    private void Compare(in ClockSample now)
    {
        double rate = (double)(now.Nanoseconds - _last.Nanoseconds) / (now.Counter - _last.Counter);
        if (_count == 0)
        {
            _lines[0] = new Line(_last.Counter, _last.Nanoseconds, rate);
            _count = 1;
        }
        else
        {
            // From where we are to where we should be after as long again; never backwards, and never so fast or slow that it would be noticed.
            long here = _lines[_count - 1].At(now.Counter);
            double behind = now.Nanoseconds - here;
            double ahead = now.Counter - _last.Counter;
            double slewed = Math.Clamp(rate + (behind / ahead), rate / 2, rate * 2);
            if (_count == MaximumLines)
            {
                Array.Copy(_lines, 1, _lines, 0, MaximumLines - 1);
                _count--;
            }

            _lines[_count++] = new Line(now.Counter, here, slewed);
        }

        _last = now;
        _distance = Math.Min(_distance * 2, LargestDistanceNs);
    }

    private static ClockSample Read(IPlatform platform)
    {
        Errno error = platform.ReadClocks(out ClockSample sample);
        return error == Errno.None
            ? sample
            : throw new FastTrapException(FastTrapError.KernelRefused, $"The processor's time counter cannot be read ({error}). Use the Breakpoint mechanism.", 0, (int)error);
    }

    private readonly record struct Line(ulong Counter, long Nanoseconds, double NsPerTick)
    {
        public long At(ulong ticks) => Nanoseconds + (long)((long)(ticks - Counter) * NsPerTick);
    }
}
