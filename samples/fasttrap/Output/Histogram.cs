using System.Numerics;

namespace FastTrap.Tool.Output;

/// <summary>Durations counted in buckets which double: bucket n holds 2^n up to 2^(n+1) - 1 nanoseconds, bucket 0 also 0.</summary>
internal sealed class Histogram
{
    private const int BarWidth = 40;
    private readonly long[] _buckets = new long[64];

    public long Count { get; private set; }

    public long Minimum { get; private set; } = long.MaxValue;

    public long Maximum { get; private set; }

    /// <summary>The sum, as a double since it may exceed 64 bits only in theory and is shown rounded.</summary>
    public double Sum { get; private set; }

    public double Average => Count == 0 ? 0 : Sum / Count;

    public void Add(long nanoseconds)
    {
        nanoseconds = Math.Max(0, nanoseconds);
        _buckets[BitOperations.Log2((ulong)nanoseconds | 1)]++;
        Count++;
        Sum += nanoseconds;
        Minimum = Math.Min(Minimum, nanoseconds);
        Maximum = Math.Max(Maximum, nanoseconds);
    }

    /// <summary>Adds so many of a bucket, told by one of its values, without their sum; <see cref="Complete"/> says that.</summary>
    public void Add(long nanoseconds, long count)
    {
        _buckets[BitOperations.Log2((ulong)nanoseconds | 1)] += count;
        Count += count;
    }

    /// <summary>Says what the values were together.</summary>
    public void Complete(double sum, long? minimum, long? maximum)
    {
        Sum = sum;
        Minimum = minimum ?? long.MaxValue;
        Maximum = maximum ?? 0;
    }

    /// <summary>The buckets from the first to the last that is not empty.</summary>
    public IEnumerable<(long From, long To, long Count)> Buckets()
    {
        int first = Array.FindIndex(_buckets, count => count > 0);
        int last = Array.FindLastIndex(_buckets, count => count > 0);
        for (int i = first; first >= 0 && i <= last; i++)
        {
            yield return (i == 0 ? 0 : 1L << i, i == 62 ? long.MaxValue : 1L << (i + 1), _buckets[i]);
        }
    }

    /// <summary>The bars, a line for each bucket.</summary>
    public IEnumerable<string> Draw()
    {
        long most = _buckets.Max();
        foreach ((long from, long to, long count) in Buckets())
        {
            int length = (int)Math.Round((double)count / most * BarWidth);
            string bar = new string('#', count > 0 ? Math.Max(1, length) : 0).PadRight(BarWidth);
            yield return $"  {Durations.Format(from),9} .. {Durations.Format(to),9} |{bar}| {count}";
        }
    }
}
