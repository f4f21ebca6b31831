using System.Numerics;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;

namespace FastTrap;

/// <summary>The steps of a histogram.</summary>
internal sealed class HistogramScale
{
    private const int MaximumSteps = 1000;

    private readonly long _least;
    private readonly long _step;

    private HistogramScale(int count, long least, long step)
    {
        Count = count;
        _least = least;
        _step = step;
    }

    /// <summary>Below 0, 0, 1, 2 to 3, 4 to 7 and so on.</summary>
    public static HistogramScale PowersOfTwo { get; } = new(65, 0, 0);

    public int Count { get; }

    /// <summary>The width of a step; 0: powers of two.</summary>
    public long Step => _step;

    public static HistogramScale Linear(long least, long most, long step)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(step, 1);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(most, least);
        UInt128 steps = ((UInt128)((Int128)most - least) + (UInt128)step - 1) / (UInt128)step;
        ArgumentOutOfRangeException.ThrowIfGreaterThan(steps, (UInt128)MaximumSteps, nameof(step));
        return new HistogramScale((int)steps + 2, least, step);
    }

    public int IndexOf(long value)
    {
        if (_step == 0)
        {
            // Below 0; 0; then a step for each number of significant bits.
            return value < 0 ? 0 : 65 - BitOperations.LeadingZeroCount((ulong)value);
        }

        return value < _least ? 0 : (int)UInt128.Min((UInt128)((Int128)value - _least) / (UInt128)_step, (UInt128)(Count - 2)) + 1;
    }

    /// <summary>The steps from the first to the last that was reached.</summary>
    public IReadOnlyList<HistogramStep> GetSteps(long[] counts)
    {
        int first = Array.FindIndex(counts, c => c != 0);
        int last = Array.FindLastIndex(counts, c => c != 0);
        return first < 0 ? [] :
        [
            .. Enumerable.Range(first, last - first + 1).Select(
                i => new HistogramStep(LeastOf(i), i + 1 == Count ? long.MaxValue : LeastOf(i + 1) - 1, Volatile.Read(ref counts[i]))),
        ];
    }

    /// <summary>The least value of a step; of the first, <see cref="long.MinValue"/>.</summary>
    public long LeastOf(int index) => index == 0 ? long.MinValue
        : _step != 0 ? _least + ((index - 1) * _step)
        : index == 1 ? 0 : 1L << (index - 2);
}

/// <summary>One step of a histogram that was reached.</summary>
/// <param name="From">Its least value; <see cref="long.MinValue"/> for the first.</param>
/// <param name="To">Its greatest value; <see cref="long.MaxValue"/> for the last.</param>
/// <param name="Count">How often a value fell into it.</param>
public readonly record struct HistogramStep(long From, long To, long Count);

/// <summary>How often a value fell into each step. Values that could not be had are left out.</summary>
public sealed class ProbeHistogram : ProbeResult
{
    private readonly HistogramScale _scale;
    private readonly long[] _counts;

    internal ProbeHistogram(ProbeProgram program, HistogramScale scale)
        : base(program, ProgramAction.Histogram(scale))
    {
        _scale = scale;
        _counts = new long[scale.Count];
    }

    /// <summary>The steps from the first to the last that was reached, as they are now.</summary>
    public IReadOnlyList<HistogramStep> GetSteps()
    {
        long[] counts = new long[_counts.Length];
        for (int i = 0; i < counts.Length; i++)
        {
            counts[i] = Volatile.Read(ref _counts[i]);
        }

        Code?.AddSteps(counts);
        return _scale.GetSteps(counts);
    }

    private protected override void Take(in ProbeContext context, ReadOnlySpan<ulong> values, ReadOnlySpan<bool> valid, bool isComplete)
    {
        if (isComplete)
        {
            ref long count = ref _counts[_scale.IndexOf((long)values[Program.Outputs[0]])];
            Volatile.Write(ref count, count + 1);
        }
    }
}
