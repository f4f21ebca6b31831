using System.Diagnostics;
using System.Linq.Expressions;
using FastTrap.Native;
using FastTrap.Programs;
using FastTrap.Programs.Shared;

namespace FastTrap.Tests.Programs.Shared;

/// <summary>Reading costs no memory; what a target scribbles harms nobody; fields become the values of a query.</summary>
[TestFixture]
[NonParallelizable]
internal sealed class RecordReadingTests
{
    [Test, NonParallelizable]
    public void ReadingAllocatesNothing()
    {
        const int Lanes = 4;
        using RingWriter writer = new(new LaneLayout(0, 4096, Lanes));
        using LaneReader reader = new(writer.Region);
        long written = 0;
        long read = 0;
        long allocated = 0;
        for (int round = 0; round < 300; round++)
        {
            for (int lane = 0; lane <= Lanes; lane++)
            {
                while (writer.TryWrite(lane, 3, (ulong)round + 1, 5))
                {
                    written++;
                }
            }

            // The first rounds are the compiler's.
            long before = GC.GetAllocatedBytesForCurrentThread();
            if (round % 2 == 0)
            {
                while (reader.TryRead(out RecordBatch batch))
                {
                    foreach (LaneRecord record in batch)
                    {
                        read += record.Fields[0] == 5 && record.Site == 3 ? 1 : 0;
                    }
                }
            }
            else
            {
                while (reader.TryReadOne(out LaneRecord record))
                {
                    read += record.Time == (ulong)round + 1 ? 1 : 0;
                }
            }

            allocated += round < 40 ? 0 : GC.GetAllocatedBytesForCurrentThread() - before;
        }

        Assert.That(read, Is.EqualTo(written).And.GreaterThan(100_000));
        Assert.That(allocated, Is.Zero);
    }

    [Test, NonParallelizable]
    public void MergingAllocatesNothing()
    {
        const int Lanes = 4;
        using RingWriter writer = new(new LaneLayout(0, 4096, Lanes));
        using MergedReader merged = new(new LaneReader(writer.Region), new CounterClock(LinuxPlatform.Instance), TimeSpan.Zero);
        long written = 0;
        long read = 0;
        long allocated = 0;
        for (int round = 0; round < 300; round++)
        {
            for (int lane = 0; lane <= Lanes; lane++)
            {
                while (writer.TryWrite(lane, 3, (ulong)written + 1, 5))
                {
                    written++;
                }
            }

            long before = GC.GetAllocatedBytesForCurrentThread();
            while (merged.TryRead(out LaneRecord record))
            {
                read += record.Fields[0] == 5 ? 1 : 0;
            }

            allocated += round < 40 ? 0 : GC.GetAllocatedBytesForCurrentThread() - before;
        }

        Assert.That(read, Is.EqualTo(written).And.GreaterThan(100_000));
        Assert.That(allocated, Is.Zero);
    }

    [Test]
    public void AScribblingTargetBreaksItsLaneAndNothingElse()
    {
        Random random = new(11);
        int broken = 0;
        for (int round = 0; round < 2000; round++)
        {
            using RingWriter writer = new(new LaneLayout(0, 256, 1));
            using LaneReader reader = new(writer.Region);
            while (writer.TryWrite(0, 1, 1, 7))
            {
                // The ring is full.
            }

            int words = random.Next(1, 4);
            for (int i = 0; i < words; i++)
            {
                bool isHead = random.Next(8) == 0;
                writer.Region.Word(0, isHead ? LaneLayout.HeadOffset : writer.Region.Layout.RingStart + (8 * random.Next(32))) = (ulong)random.NextInt64() >> random.Next(64);
            }

            writer.TryWrite(1, 2, 1, 9);
            bool isOtherRead = false;
            int batches = 0;
            for (int end = 0; end < 2; end++)
            {
                while (reader.TryRead(out RecordBatch batch))
                {
                    Assert.That(++batches, Is.LessThan(100), "it never ends");
                    foreach (LaneRecord record in batch)
                    {
                        ulong sum = record.Validity + record.Time;
                        foreach (ulong field in record.Fields)
                        {
                            sum += field;
                        }

                        isOtherRead |= batch.Lane == 1 && record.Fields[0] == 9 && sum != 0;
                    }
                }

                reader.ReadToEnd();
            }

            Assert.That(isOtherRead);
            broken += reader.BrokenLanes;
        }

        Assert.That(broken, Is.GreaterThan(200));
    }

    [Test]
    public async Task FieldsBecomeTheValuesOfAQuery()
    {
        ProgramBuilder builder = new();
        Expression<Func<QueryContext, (int Length, ulong First, bool IsLong)>> selector = c => new ValueTuple<int, ulong, bool>((int)c.Arg(0), c.Arg(1), c.Arg(0) > 5);
        (IReadOnlyList<(int, int)> texts, Func<RecordReader, (int, ulong, bool)> make) = RecordSelector.Compile(new ExpressionCompiler(builder, selector.Parameters[0]), selector);
        RecordLayout layout = new(builder.Build().Outputs.Length, texts);
        using RingWriter writer = new(new LaneLayout(0, 4096, 1));
        for (ulong i = 0; i < 10; i++)
        {
            Assert.That(writer.TryWrite(0, 1, i, i, ulong.MaxValue - i, i > 5 ? 1UL : 0));
        }

        using LaneReader reader = new(writer.Region);
        LaneFields fields = new(layout);
        RecordReader values = new(layout);
        List<(int, ulong, bool)> read = [];
        await foreach (((int, ulong, bool) value, bool isComplete) in RecordStream.ReadAllAsync(
            reader, record =>
            {
                values.Open(fields.Fill(record));
                return (make(values), values.IsComplete);
            },
            static () => true))
        {
            Assert.That(isComplete);
            read.Add(value);
        }

        Assert.That(read, Is.EqualTo(Enumerable.Range(0, 10).Select(i => (i, ulong.MaxValue - (ulong)i, i > 5))));
    }

    [Test]
    public void TicksBecomeTimesThatFollowTheClockAndNeverGoBack()
    {
        // A counter of 3 GHz, a clock that is slewed, and looks at odd moments.
        Random random = new(5);
        double clock = 1e12;
        ulong counter = 1_000_000_000_000_000;
        CounterClock times = new(() => new ClockSample(counter, (long)clock, 0));
        long last = 0;
        double worst = 0;
        for (int i = 0; i < 20_000; i++)
        {
            ulong ticks = (ulong)random.Next(1, 30_000_000);
            double slew = (i / 4000 % 2 == 0 ? 1 : -1) * 500e-6;
            counter += ticks;
            clock += ticks / 3.0 * (1 + slew);
            ulong seen = times.Now();
            long before = i > 0 ? times.ToNanoseconds(seen - (ticks / 2)) : 0;
            long now = i > 0 ? times.ToNanoseconds(seen) : 0;
            Assert.That(now, Is.GreaterThanOrEqualTo(Math.Max(before, last)));
            worst = i > 100 ? Math.Max(worst, Math.Abs(now - clock)) : 0;
            last = now;
        }

        TestContext.Out.WriteLine($"at worst {worst:0} ns off");
        Assert.That(worst, Is.LessThan(4e6), "a second's drift of a thousandth, and its mending");

        CounterClock real = new(LinuxPlatform.Instance);
        for (int i = 0; i < 1000; i++)
        {
            long before = Stopwatch.GetTimestamp();
            ulong ticks = real.Now();
            long after = Stopwatch.GetTimestamp();
            Assert.That(real.ToNanoseconds(ticks), Is.InRange(before - 1_000_000, after + 1_000_000));
        }
    }
}
