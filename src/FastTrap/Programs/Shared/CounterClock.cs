using FastTrap.Native;

namespace FastTrap.Programs.Shared;

/// <summary>Turns ticks of the processor's time counter into nanoseconds of CLOCK_MONOTONIC.</summary>
/// <remarks>
/// Any thread. The two clocks are compared at the beginning, soon after, and then in ever longer distances up to a second, for one of them may be slewed. Between comparisons the clock is a straight line; each line begins where the one before has come to,
/// and leads to where it should have been, so that times never go back. All who compare times use one (<see cref="Of"/>): two of them differ by more than a call takes. Ticks of the past are turned by the lines of their time, as long as these are remembered.
/// </remarks>
internal sealed class CounterClock
{
    private const int MaximumLines = 64;
    private const long FirstDistanceNs = 1_000_000;
    private const long LargestDistanceNs = 1_000_000_000;

    private static readonly Lock s_gate = new();
    private static CounterClock? s_clock;

    private readonly Lock _gate = new();
    private readonly Func<ClockSample> _read;
    private volatile Row _row = new();
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
    }

    /// <summary>The one of this process.</summary>
    /// <exception cref="FastTrapException">The counter cannot be read.</exception>
    public static CounterClock Of(IPlatform platform)
    {
        lock (s_gate)
        {
            return s_clock ??= new CounterClock(platform);
        }
    }

    /// <summary>Ticks of the counter for each nanosecond; 0 before the second comparison.</summary>
    public double TicksPerNanosecond => _row is { Count: > 0 and var count } row ? 1 / row.Lines[count - 1].NsPerTick : 0;

    /// <summary>The counter now. Compares the clocks if it is time to.</summary>
    public ulong Now()
    {
        ClockSample now = _read();
        lock (_gate)
        {
            if (now.Nanoseconds - _last.Nanoseconds >= _distance)
            {
                Compare(now);
            }
        }

        return now.Counter;
    }

    /// <summary>Turns ticks into nanoseconds; of ticks that are later than others the time is not earlier.</summary>
    public long ToNanoseconds(ulong ticks)
    {
        Row row = _row;
        int line = row.Count - 1;
        while (line < 0)
        {
            // Once, and not longer than the first distance.
            Now();
            row = _row;
            line = row.Count - 1;
        }

        while (line > 0 && (long)(ticks - row.Lines[line].Counter) < 0)
        {
            line--;
        }

        return row.Lines[line].At(ticks);
    }

    /// <summary>Adds a comparison.</summary>
    private void Compare(in ClockSample now)
    {
        double rate = (double)(now.Nanoseconds - _last.Nanoseconds) / (now.Counter - _last.Counter);
        Row row = _row;
        if (row.Count == 0)
        {
            row.Add(new Line(_last.Counter, _last.Nanoseconds, rate));
        }
        else
        {
            // From where we are to where we should be after as long again; never backwards, and never so fast or slow that it would be noticed.
            long here = row.Lines[row.Count - 1].At(now.Counter);
            double behind = now.Nanoseconds - here;
            double ahead = now.Counter - _last.Counter;
            double slewed = Math.Clamp(rate + (behind / ahead), rate / 2, rate * 2);
            if (row.Count == MaximumLines)
            {
                _row = row = row.LaterHalf();
            }

            row.Add(new Line(now.Counter, here, slewed));
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

    /// <summary>Lines, which once they are there stay as they are, for readers that hold no lock.</summary>
    private sealed class Row
    {
        private volatile int _count;

        public Line[] Lines { get; } = new Line[MaximumLines];

        public int Count => _count;

        public void Add(in Line line)
        {
            Lines[_count] = line;
            _count++;
        }

        public Row LaterHalf()
        {
            Row half = new();
            foreach (ref readonly Line line in Lines.AsSpan(MaximumLines / 2))
            {
                half.Add(line);
            }

            return half;
        }
    }
}
