using FastTrap.Programs;

namespace FastTrap;

/// <summary>How often each key came. Hits whose key could not be had are left out.</summary>
/// <remarks>
/// Scheme. An open table of fixed size; the control thread writes, a key before its count, and never moves one, so that any thread may read meanwhile.
/// </remarks>
/// <typeparam name="TKey">A number, a condition or an enumeration.</typeparam>
public sealed class ProbeCounts<TKey> : ProbeResult
    where TKey : unmanaged
{
    private readonly Func<RecordReader, TKey> _make;
    private readonly ulong[] _keys;
    private readonly long[] _counts;
    private readonly int _capacity;
    private readonly int _shift;
    private int _used;
    private long _others;

    internal ProbeCounts(ProbeProgram program, Func<RecordReader, TKey> make, int capacity)
        : base(program)
    {
        _make = make;
        _capacity = capacity;
        int size = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(4, capacity * 2));
        _keys = new ulong[size];
        _counts = new long[size];
        _shift = 64 - int.Log2(size);
    }

    /// <summary>Hits whose key had no room any more.</summary>
    public long OtherCount => Volatile.Read(ref _others);

    /// <summary>The counts as they are now.</summary>
    public IReadOnlyDictionary<TKey, long> GetCounts()
    {
        RecordReader reader = new(new RecordLayout(1, []));
        ulong[] words = [0, 1];
        reader.Open(words);
        Dictionary<TKey, long> counts = [];
        for (int i = 0; i < _counts.Length; i++)
        {
            long count = Volatile.Read(ref _counts[i]);
            if (count != 0)
            {
                words[0] = _keys[i];
                TKey key = _make(reader);
                counts[key] = counts.GetValueOrDefault(key) + count;
            }
        }

        return counts;
    }

    private protected override void Take(in ProbeContext context, ReadOnlySpan<ulong> values, ReadOnlySpan<bool> valid, bool isComplete)
    {
        if (!isComplete)
        {
            return;
        }

        ulong key = values[Program.Outputs[0]];
        int mask = _keys.Length - 1;
        for (int i = (int)((key * 0x9E3779B97F4A7C15UL) >> _shift); ; i = (i + 1) & mask)
        {
            long count = _counts[i];
            if (count == 0)
            {
                if (_used == _capacity)
                {
                    Volatile.Write(ref _others, _others + 1);
                    return;
                }

                _used++;
                _keys[i] = key;
            }
            else if (_keys[i] != key)
            {
                continue;
            }

            Volatile.Write(ref _counts[i], count + 1);
            return;
        }
    }
}
