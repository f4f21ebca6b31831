using System.Diagnostics.CodeAnalysis;
using FastTrap.Native;
using FastTrap.Programs.Shared;

namespace FastTrap.Programs;

/// <summary>Reads the records that a query's code has written, in the order of their times. One thread at a time.</summary>
internal sealed class QueryReader : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(50);

    private readonly QueryProgram _program;
    private readonly CounterClock _clock;
    private readonly LaneReader _reader;
    private readonly MergedReader _merged;

    public QueryReader(QueryProgram program, SharedRegion region, IPlatform platform)
    {
        _program = program;
        _clock = CounterClock.Of(platform);
        _reader = new LaneReader(region);
        _merged = new MergedReader(_reader, _clock, s_patience);
    }

    /// <summary>No program runs any more.</summary>
    public void ReadToEnd() => _reader.ReadToEnd();

    /// <summary>The next record, valid until the next call.</summary>
    public bool TryRead(out LaneRecord record, [NotNullWhen(true)] out Probe? probe, out long timestampNs)
    {
        while (_merged.TryRead(out record))
        {
            probe = _program.FindProbe(record.Site);
            if (probe is not null)
            {
                timestampNs = _clock.ToNanoseconds(record.Time);
                return true;
            }
        }

        probe = null;
        timestampNs = 0;
        return false;
    }

    public void CountRead(bool isComplete) => _program.CountRead(isComplete);

    public void Dispose()
    {
        _merged.Dispose();
        _program.EndReading();
    }
}
