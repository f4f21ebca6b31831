using FastTrap.Programs.Shared;

namespace FastTrap.Programs.Compilation;

internal enum ProgramActionKind : byte
{
    Count,
    CountBySite,
    Sum,
    Histogram,
    Record,
    CountBy,
    Latency,
}

/// <summary>What is done with the outputs of a program whose filter passes. Immutable.</summary>
/// <remarks>
/// Counters of a lane, each of 64 bits, 0 at the start: a count has one, the hits; a count by site has one for each number of a site. A sum has hits, sum, <see cref="EncodeLeast"/> of the least, <see cref="EncodeGreatest"/> of the greatest, hits
/// without a value. A histogram has its steps, then the hits without a value. A record has none. For counts by key see <see cref="KeyTable"/>, for latencies <see cref="CallStack"/>.
/// </remarks>
internal sealed class ProgramAction
{
    public const int SumHits = 0;
    public const int SumTotal = 1;
    public const int SumLeast = 2;
    public const int SumGreatest = 3;
    public const int SumIncomplete = 4;

    private ProgramAction(ProgramActionKind kind, int counterCount)
    {
        Kind = kind;
        CounterCount = counterCount;
    }

    public static ProgramAction Count { get; } = new(ProgramActionKind.Count, 1);

    /// <summary>Counts each site by itself.</summary>
    /// <param name="sites">How many there may be; their numbers are less.</param>
    public static ProgramAction CountBySite(int sites) => new(ProgramActionKind.CountBySite, sites);

    public static ProgramAction Sum { get; } = new(ProgramActionKind.Sum, 5);

    public static ProgramAction Record { get; } = new(ProgramActionKind.Record, 0);

    public ProgramActionKind Kind { get; }

    /// <summary>Words which it needs in each lane.</summary>
    public int CounterCount { get; }

    /// <summary>Of a histogram: the number of steps, the value with which the second begins, and a step's width, 0 for powers of two.</summary>
    public (int Count, long Least, long Step) Scale { get; private init; }

    /// <summary>Of records: the texts and stacks behind the outputs, as <see cref="RecordLayout"/> has them.</summary>
    public IReadOnlyList<(int AddressOutput, int MaximumLength)> Texts { get; private init; } = [];

    public static ProgramAction RecordWith(IReadOnlyList<(int AddressOutput, int MaximumLength)> texts) =>
        texts.Count == 0 ? Record : new ProgramAction(ProgramActionKind.Record, 0) { Texts = texts };

    /// <summary>Of counts by key.</summary>
    public KeyTable? Keys { get; private init; }

    /// <summary>Of latencies.</summary>
    public CallStack? Calls { get; private init; }

    public static ProgramAction CountBy(int capacity)
    {
        KeyTable keys = new(capacity);
        return new ProgramAction(ProgramActionKind.CountBy, keys.WordCount) { Keys = keys };
    }

    /// <summary>At entries and returns of functions; the filter is the entries'.</summary>
    public static ProgramAction Latency(int depth)
    {
        CallStack calls = new(depth);
        return new ProgramAction(ProgramActionKind.Latency, calls.WordCount) { Calls = calls };
    }

    public static ProgramAction Histogram(HistogramScale scale) =>
        new(ProgramActionKind.Histogram, scale.Count + 1) { Scale = (scale.Count, scale.LeastOf(1), scale.Step) };

    /// <summary>So that 0 is no value yet, and the lesser value is the greater word.</summary>
    public static ulong EncodeLeast(long value) => (ulong)value ^ long.MaxValue;

    /// <summary>So that 0 is no value yet, and the greater value is the greater word.</summary>
    public static ulong EncodeGreatest(long value) => (ulong)value ^ (1UL << 63);

    public static long DecodeLeast(ulong word) => (long)(word ^ long.MaxValue);

    public static long DecodeGreatest(ulong word) => (long)(word ^ (1UL << 63));

    /// <summary>How many outputs of the program it uses, or null if any number.</summary>
    public int? OutputCount => Kind switch
    {
        ProgramActionKind.Record => null,
        ProgramActionKind.Count or ProgramActionKind.CountBySite or ProgramActionKind.Latency => 0,
        _ => 1,
    };
}
