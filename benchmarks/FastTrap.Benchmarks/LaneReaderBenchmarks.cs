using BenchmarkDotNet.Attributes;
using FastTrap.Native;
using FastTrap.Programs;
using FastTrap.Programs.Shared;
using FastTrap.Tests.Programs.Shared;

namespace FastTrap.Benchmarks;

/// <summary>Reading records of 32 bytes from rings which were filled before: time for each record, and bytes allocated.</summary>
[MemoryDiagnoser]
[InvocationCount(1)]
[WarmupCount(20)]
[IterationCount(40)]
public class LaneReaderBenchmarks
{
    private const int Lanes = 4;
    private const int RingLength = 1 << 20;
    private const int Records = Lanes * RingLength / 32;

    private readonly RingWriter _writer = new(new LaneLayout(0, RingLength, 8));
    private readonly LaneFields _fields = new(new RecordLayout(1, []));
    private readonly RecordReader _values = new(new RecordLayout(1, []));
    private LaneReader _reader = null!;
    private LaneReader _lanes = null!;
    private MergedReader _merged = null!;
    private CounterClock _clock = null!;

    [GlobalSetup]
    public void Open()
    {
        _clock = new CounterClock(LinuxPlatform.Instance);
        _reader = new LaneReader(_writer.Region);
    }

    /// <summary>The producer's part, which is not measured.</summary>
    [IterationSetup]
    public void Fill()
    {
        for (int i = 0; i < Records; i++)
        {
            if (!_writer.TryWrite(i % Lanes, 1, (ulong)i + 1, (ulong)i))
            {
                throw new InvalidOperationException($"Record {i} found no room.");
            }
        }

        // One reader at a time: that which reads this time begins where the last one has come to.
        _reader.Dispose();
        _lanes?.Dispose();
        _reader = new LaneReader(_writer.Region);
        _lanes = new LaneReader(_writer.Region);
        _merged = new MergedReader(_lanes, _clock, TimeSpan.Zero);
    }

    [GlobalCleanup]
    public void Close()
    {
        _reader.Dispose();
        _lanes.Dispose();
        _writer.Dispose();
    }

    /// <summary>Batches, of each record one field.</summary>
    [Benchmark(Baseline = true, OperationsPerInvoke = Records)]
    public ulong Batches()
    {
        ulong sum = 0;
        while (_reader.TryRead(out RecordBatch batch))
        {
            foreach (LaneRecord record in batch)
            {
                sum += record.Fields[0];
            }
        }

        return Checked(sum);
    }

    /// <summary>Record by record, with its site and its time in nanoseconds.</summary>
    [Benchmark(OperationsPerInvoke = Records)]
    public ulong OneByOne()
    {
        ulong sum = 0;
        ulong other = 0;
        while (_reader.TryReadOne(out LaneRecord record))
        {
            sum += record.Fields[0];
            other += record.Site + (ulong)_clock.ToNanoseconds(record.Time);
        }

        return Checked(sum) + other;
    }

    /// <summary>Record by record, the fields as a query's values.</summary>
    [Benchmark(OperationsPerInvoke = Records)]
    public ulong Values()
    {
        ulong sum = 0;
        while (_reader.TryReadOne(out LaneRecord record))
        {
            _values.Open(_fields.Fill(record));
            sum += _values.GetUInt64(0);
        }

        return Checked(sum);
    }

    /// <summary>In the order of times, which changes the lane with each record.</summary>
    [Benchmark(OperationsPerInvoke = Records)]
    public ulong Merged()
    {
        ulong sum = 0;
        while (_merged.TryRead(out LaneRecord record))
        {
            sum += record.Fields[0];
        }

        return Checked(sum);
    }

    private static ulong Checked(ulong sum) =>
        sum == (ulong)Records * (Records - 1) / 2 ? sum : throw new InvalidOperationException("Not every record was read once.");
}
