using FastTrap.Programs.Shared;

namespace FastTrap.Tests.Programs.Shared;

/// <summary>Checks records of <c>lanes</c> one by one, and keeps what the writers say of themselves as well. It knows nothing of the reader.</summary>
internal sealed class RecordLedger
{
    private const uint Handlers = 1000;

    private readonly Dictionary<uint, (ulong Count, ulong Sum, long Last)> _bySite = [];

    public List<string> Wrong { get; } = [];

    public ulong Count { get; private set; }

    /// <summary>Of a writing thread, with its signal handler's.</summary>
    public (ulong Count, ulong Sum) Of(int thread)
    {
        (ulong count, ulong sum, _) = _bySite.GetValueOrDefault((uint)thread);
        (ulong handled, ulong handledSum, _) = _bySite.GetValueOrDefault(Handlers + (uint)thread);
        return (count + handled, unchecked(sum + handledSum));
    }

    /// <summary>A later run begins its numbers anew.</summary>
    public void Clear()
    {
        _bySite.Clear();
        Count = 0;
    }

    public void Add(LaneRecord record)
    {
        ReadOnlySpan<ulong> fields = record.Fields;
        ulong sequence = fields[0];
        ulong check = Check(record.Site, sequence);
        bool isOdd = (sequence & 1) != 0;
        int length = LaneLayout.RecordHeaderLength + (8 * (2 + (int)(sequence * 7 % 5) + (isOdd ? 1 : 0)));
        (ulong count, ulong sum, long last) = _bySite.TryGetValue(record.Site, out var before) ? before : (0UL, 0UL, -1L);
        if (fields[1] != check || record.Bytes.Length != length || fields[2..].IndexOfAnyExcept(sequence) >= 0 || (long)sequence <= last
            || record.Validity != (isOdd ? ulong.MaxValue << (int)(sequence & 3) : ulong.MaxValue) || record.Cpu != -1 || record.ThreadId <= 0)
        {
            Wrong.Add($"site {record.Site}: {sequence} after {last}, {record.Bytes.Length} bytes");
        }

        _bySite[record.Site] = (count + 1, unchecked(sum + check), (long)sequence);
        Count++;
    }

    public void AssertEqual(IReadOnlyList<LaneReport> reports)
    {
        Assert.That(Wrong, Is.Empty);
        for (int thread = 0; thread < reports.Count; thread++)
        {
            Assert.That(Of(thread), Is.EqualTo((reports[thread].Written, reports[thread].Sum)), $"thread {thread}");
        }
    }

    /// <summary>As the target computes it.</summary>
    private static ulong Check(uint site, ulong sequence) => unchecked((site + 1UL) ^ (sequence + 0x9e3779b97f4a7c15 + ((site + 1UL) << 6) + ((site + 1UL) >> 2)));
}
