using System.Globalization;
using FastTrap.Native;
using FastTrap.Programs.Shared;
using FastTrap.Tests.Programs.Shared;

namespace FastTrap.HitCost;

/// <summary>What reading takes: records of 32 bytes from rings that were filled before, by one thread; and what it allocates.</summary>
internal static class ReaderCost
{
    private const int Lanes = 4;
    private const int RingLength = 1 << 20;
    private const int Records = Lanes * RingLength / 32;
    private const int Warmup = 30;
    private const double GoalPerSecond = 20e6;

    private static readonly LaneLayout s_layout = new(0, RingLength, 8);

    public static void Print(int rounds)
    {
        CounterClock clock = new(LinuxPlatform.Instance);
        using RingWriter batched = new(s_layout);
        using RingWriter single = new(s_layout);
        using RingWriter ordered = new(s_layout);
        using LaneReader batches = new(batched.Region);
        using LaneReader records = new(single.Region);
        using LaneReader lanes = new(ordered.Region);
        MergedReader merged = new(lanes, clock, TimeSpan.Zero);
        (string Name, RingWriter Writer, Func<ulong> Read)[] ways =
        [
            ("in batches", batched, () => ReadBatches(batches)),
            ("one by one, with times", single, () => ReadOneByOne(records, clock)),
            ("merged in the order of times", ordered, () => ReadMerged(merged)),
        ];
        List<double>[] costs = [.. ways.Select(_ => new List<double>())];
        long[] allocated = new long[ways.Length];
        for (int round = -Warmup; round < rounds; round++)
        {
            for (int way = 0; way < ways.Length; way++)
            {
                Fill(ways[way].Writer);
                long before = GC.GetAllocatedBytesForCurrentThread();
                long start = System.Diagnostics.Stopwatch.GetTimestamp();
                ulong sum = ways[way].Read();
                double ns = System.Diagnostics.Stopwatch.GetElapsedTime(start).TotalNanoseconds / Records;
                long bytes = GC.GetAllocatedBytesForCurrentThread() - before;
                if (sum != (ulong)Records * (Records - 1) / 2)
                {
                    throw new InvalidOperationException("Not every record was read once.");
                }

                if (round >= 0)
                {
                    costs[way].Add(ns);
                    allocated[way] = Math.Max(allocated[way], bytes);
                }
            }
        }

        MarkdownTable table = new("reading records of 32 bytes, one thread", "ns for each", "millions a second", "goal", "bytes allocated for all");
        for (int way = 0; way < ways.Length; way++)
        {
            double ns = CostTable.Median(costs[way]);
            table.Add(
                ways[way].Name, ns.ToString("0.0", CultureInfo.InvariantCulture), (1e3 / ns).ToString("0", CultureInfo.InvariantCulture),
                $"{GoalPerSecond / 1e6:0}", $"{allocated[way]} ({Records} records)");
        }

        table.Print();
    }

    private static void Fill(RingWriter writer)
    {
        for (int i = 0; i < Records; i++)
        {
            if (!writer.TryWrite(i % Lanes, 1, (ulong)i + 1, (ulong)i))
            {
                throw new InvalidOperationException($"Record {i} found no room.");
            }
        }
    }

    private static ulong ReadBatches(LaneReader reader)
    {
        ulong sum = 0;
        while (reader.TryRead(out RecordBatch batch))
        {
            foreach (LaneRecord record in batch)
            {
                sum += record.Fields[0];
            }
        }

        return sum;
    }

    private static ulong ReadOneByOne(LaneReader reader, CounterClock clock)
    {
        ulong sum = 0;
        long times = 0;
        while (reader.TryReadOne(out LaneRecord record))
        {
            sum += record.Fields[0];
            times += clock.ToNanoseconds(record.Time);
        }

        GC.KeepAlive(times);
        return sum;
    }

    private static ulong ReadMerged(MergedReader merged)
    {
        ulong sum = 0;
        while (merged.TryRead(out LaneRecord record))
        {
            sum += record.Fields[0];
        }

        return sum;
    }
}
