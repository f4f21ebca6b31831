using FastTrap.Native;
using FastTrap.Programs.Shared;

namespace FastTrap.Tests.Programs.Shared;

/// <summary>Records of several lanes in the order of their times, and what is held back for what may still come.</summary>
[TestFixture]
[NonParallelizable]
internal sealed class MergedReaderTests
{
    private const int Lanes = 8;

    /// <summary>Longer than the margin, in ticks of any processor.</summary>
    private const ulong LongAgo = 1_000_000_000;

    private static readonly TimeSpan s_forEver = TimeSpan.FromHours(1);

    [Test]
    public unsafe void RecordsOfLanesAreMergedByTime()
    {
        using RingWriter writer = new(new LaneLayout(0, 1024, Lanes));
        using LaneReader reader = new(writer.Region);
        using MergedReader merged = new(reader, new CounterClock(LinuxPlatform.Instance), s_forEver);
        Random random = new(7);
        List<ulong> expected = [];
        List<ulong> read = [];
        for (int i = 0; i < 20_000; i++)
        {
            // As a program does: reserved first, then timed.
            byte* record = writer.Reserve(random.Next(Lanes + 1), LaneLayout.RecordLength(2, false));
            if (record != null)
            {
                expected.Add(Now());
                RingWriter.Commit(record, 1, expected[^1], 1, 2);
            }

            // Never all that is there, so that lanes are at all stages.
            for (int n = random.Next(3); n > 0 && merged.TryRead(out LaneRecord next); n--)
            {
                read.Add(next.Time);
            }
        }

        Assert.That(read, Has.Count.GreaterThan(1000));
        reader.ReadToEnd();
        Drain(merged, read);
        Assert.That(read, Is.EqualTo(expected));
        Assert.That(merged.Late, Is.Zero);
        Assert.That(writer.Region.CountDrops(), Is.EqualTo(20_000UL - (ulong)expected.Count));
    }

    [Test]
    public unsafe void WhatIsBegunHoldsBackWhatIsLater()
    {
        using RingWriter writer = new(new LaneLayout(0, 1024, Lanes));
        using MergedReader merged = Merge(writer, s_forEver);
        ulong time = Now() - LongAgo;
        writer.TryWrite(0, 1, time + 10);
        byte* begun = writer.Reserve(0, LaneLayout.RecordHeaderLength);
        writer.TryWrite(0, 1, time + 50);
        writer.TryWrite(1, 2, time + 5);
        writer.TryWrite(1, 2, time + 20);
        List<ulong> read = [];
        Drain(merged, read);
        Assert.That(read, Is.EqualTo(new[] { time + 5, time + 10 }), "whoever is begun may be of any time after the last of its lane");
        RingWriter.Commit(begun, 1, time + 15);
        Drain(merged, read);
        Assert.That(read[2..], Is.EqualTo(new[] { time + 15, time + 20, time + 50 }));
    }

    [Test]
    public unsafe void WithoutPatienceWhatComesTooLateIsGivenAndCounted()
    {
        using RingWriter writer = new(new LaneLayout(0, 1024, Lanes));
        using MergedReader merged = Merge(writer, TimeSpan.FromTicks(-1));
        ulong time = Now() - LongAgo;
        byte* begun = writer.Reserve(0, LaneLayout.RecordHeaderLength);
        writer.TryWrite(1, 2, time + 20);
        List<ulong> read = [];
        Drain(merged, read);
        RingWriter.Commit(begun, 1, time + 15);
        Drain(merged, read);
        Assert.That(read, Is.EqualTo(new[] { time + 20, time + 15 }));
        Assert.That(merged.Late, Is.EqualTo(1));
    }

    [Test]
    public void ALaterRecordThanNowWaitsForItsTime()
    {
        using RingWriter writer = new(new LaneLayout(0, 1024, Lanes));
        using MergedReader merged = Merge(writer, s_forEver);
        CounterClock clock = new(LinuxPlatform.Instance);
        long start = clock.ToNanoseconds(clock.Now());
        ulong time = clock.Now() + (ulong)(20_000_000 * clock.TicksPerNanosecond);
        writer.TryWrite(3, 1, time);
        Assert.That(merged.TryRead(out _), Is.False);
        Assert.That(() => merged.TryRead(out LaneRecord record) && record.Time == time, Is.True.After(60_000, 1));
        Assert.That(clock.Now(), Is.GreaterThan(time));
        Assert.That(clock.ToNanoseconds(time), Is.GreaterThan(start));
    }

    [TestCase(4)]
    [TestCase(24)]
    public async Task ThreadsThatWriteAtOnceAreMerged(int threads)
    {
        const int Records = 5000;
        await using SharedTarget shared = await SharedTarget.StartAsync(new LaneLayout(0, 1 << 20, 32));
        using LaneReader reader = new(shared.Region);
        using MergedReader merged = new(reader, new CounterClock(shared.Handle.Platform), s_forEver);
        RecordLedger ledger = new();
        shared.Target.SendLine($"run {threads} {Records} 0");
        Task<List<LaneReport>> reports = Task.Run(shared.ReadReports);
        ulong last = 0;
        bool isOrdered = true;
        await foreach ((ulong time, uint _) in RecordStream.ReadMergedAsync(
            merged, reader, record =>
            {
                ledger.Add(record);
                return (record.Time, record.Site);
            },
            () => reports.IsCompleted))
        {
            isOrdered &= time >= last;
            last = time;
        }

        ledger.AssertEqual(await reports);
        Assert.That((isOrdered, merged.Late, reader.Drops), Is.EqualTo((true, 0L, 0UL)));
        Assert.That(ledger.Count, Is.EqualTo((ulong)(threads * Records)));
        shared.End();
    }

    private static MergedReader Merge(RingWriter writer, TimeSpan patience) => new(new LaneReader(writer.Region), new CounterClock(LinuxPlatform.Instance), patience);

    private static ulong Now()
    {
        Assert.That(LinuxPlatform.Instance.ReadClocks(out ClockSample sample), Is.EqualTo(Errno.None));
        return sample.Counter;
    }

    private static void Drain(MergedReader merged, List<ulong> times)
    {
        while (merged.TryRead(out LaneRecord record))
        {
            times.Add(record.Time);
        }
    }
}
