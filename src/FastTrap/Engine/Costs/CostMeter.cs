namespace FastTrap.Engine;

/// <summary>
/// What the hits of one enabling cost its target: how many stops there were, and for how long a thread stood still, in all and over the last second.
/// </summary>
/// <remarks>
/// One writer, the control thread; any thread reads. A reader may see a stop whose time is not added yet, which the next look puts right. Times are given, not taken: ticks
/// of whatever clock the caller has, <paramref name="frequency"/> of them in a second.
/// </remarks>
internal sealed class CostMeter(long frequency)
{
    private const int Buckets = 10;

    private readonly long _bucketLength = Math.Max(1, frequency / Buckets);
    private readonly Bucket[] _buckets = new Bucket[Buckets];
    private long _begin;
    private long _stops;
    private long _ticks;
    private readonly long _rare = Math.Max(1, frequency / 1000);
    private long _lastTimed;
    private int _untimed;
    private uint _random = 0x9E3779B9;

    /// <summary>Stops so far.</summary>
    public long Stops => Volatile.Read(ref _stops);

    /// <summary>Nanoseconds of a stop, on average over all so far; 0 of none.</summary>
    public double MeanNs => Stops is var stops and not 0 ? (double)Volatile.Read(ref _ticks) / stops * 1e9 / frequency : 0;

    /// <summary>Says when it begins.</summary>
    public void Begin(long now) => Volatile.Write(ref _begin, now);

    /// <summary>
    /// How many stops the time of this one is to stand for; 0: it need not be timed. A look at the clock may cost a good part of a hit, so of many stops in a millisecond one in eight is timed,
    /// at random so that no pattern of the program's hides the dear ones.
    /// </summary>
    public int WeightOf(long start)
    {
        if (start - _lastTimed >= _rare)
        {
            _lastTimed = start;
            return 1;
        }

        _random ^= _random << 13;
        _random ^= _random >> 17;
        _random ^= _random << 5;
        _untimed++;
        if ((_random & 7) != 0)
        {
            return 0;
        }

        int weight = _untimed;
        _untimed = 0;
        _lastTimed = start;
        return weight;
    }

    /// <summary>A thread was stopped from <paramref name="start"/> until <paramref name="now"/>; the time stands for <paramref name="weight"/> stops.</summary>
    public void Add(long start, long now, int weight = 1)
    {
        long number = now / _bucketLength;
        ref Bucket bucket = ref _buckets[number % Buckets];
        if (bucket.Number != number)
        {
            bucket.Number = number;
            bucket.Stops = 0;
            bucket.Ticks = 0;
        }

        bucket.Stops++;
        bucket.Ticks += (now - start) * weight;
        Volatile.Write(ref _ticks, _ticks + ((now - start) * weight));
        Volatile.Write(ref _stops, _stops + 1);
    }

    /// <summary>The cost over the second that ends now; the mean of a stop over all time where there was none in that second.</summary>
    public ProbeCost Read(long now)
    {
        long current = now / _bucketLength;
        long stops = 0;
        long ticks = 0;
        foreach (ref Bucket bucket in _buckets.AsSpan())
        {
            if (bucket.Number > current - Buckets && bucket.Number <= current)
            {
                stops += bucket.Stops;
                ticks += bucket.Ticks;
            }
        }

        long begin = Volatile.Read(ref _begin);
        long window = Math.Min(((Buckets - 1) * _bucketLength) + (now % _bucketLength), now - begin);
        long allStops = Stops;
        double ticksOfOne = stops != 0 ? (double)ticks / stops : allStops != 0 ? (double)Volatile.Read(ref _ticks) / allStops : 0;
        return window <= 0
            ? new ProbeCost(0, ticksOfOne * 1e9 / frequency, 0)
            : new ProbeCost(stops * (double)frequency / window, ticksOfOne * 1e9 / frequency, Math.Min(1, (double)ticks / window));
    }

    private struct Bucket
    {
        public long Number;
        public long Stops;
        public long Ticks;
    }
}
