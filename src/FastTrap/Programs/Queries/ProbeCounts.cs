using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap;

/// <summary>How often each key came. Hits whose key could not be had are left out.</summary>
/// <remarks>Scheme. An open table of fixed size for the tracer, written by the control thread, and one for each thread of the target where code counts: keys stay where they are, so that any thread may read meanwhile.</remarks>
/// <typeparam name="TKey">A number, a condition or an enumeration.</typeparam>
public sealed class ProbeCounts<TKey> : ProbeResult
    where TKey : unmanaged
{
    private readonly Func<RecordReader, TKey> _make;
    private readonly KeyTable _table;
    private readonly ulong[] _words;

    internal ProbeCounts(ProbeProgram program, Func<RecordReader, TKey> make, int capacity)
        : base(program, ProgramAction.CountBy(capacity))
    {
        _make = make;
        _table = Action!.Keys!;
        _words = new ulong[_table.WordCount];
    }

    /// <summary>Hits whose key had no room any more.</summary>
    public long OtherCount => (long)Volatile.Read(ref _words[KeyTable.OthersWord]) + (Code?.OtherKeys ?? 0);

    /// <summary>The counts as they are now.</summary>
    public IReadOnlyDictionary<TKey, long> GetCounts()
    {
        Dictionary<ulong, long> found = [];
        _table.AddTo(found, _words);
        Code?.AddKeys(found);
        RecordReader reader = new(new RecordLayout(1, []));
        ulong[] words = [0, 1];
        reader.Open(words);
        Dictionary<TKey, long> counts = [];
        foreach ((ulong word, long count) in found)
        {
            words[0] = word;
            TKey key = _make(reader);
            counts[key] = counts.GetValueOrDefault(key) + count;
        }

        return counts;
    }

    private protected override void Take(in ProbeContext context, ReadOnlySpan<ulong> values, ReadOnlySpan<bool> valid, bool isComplete)
    {
        if (isComplete)
        {
            _table.Add(_words, values[Program.Outputs[0]]);
        }
    }
}
