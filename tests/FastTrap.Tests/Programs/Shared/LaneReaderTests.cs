using FastTrap.Programs.Shared;
using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Programs.Shared;

/// <summary>Records which a program in C writes are read, each exactly once, in the order of their lane.</summary>
[TestFixture]
[NonParallelizable]
internal sealed class LaneReaderTests
{
    [TestCase(2, 60_000, 300, 64 * 1024, 256, Description = "two threads")]
    [TestCase(2, 20_000, 300, 512, 256, Description = "a tiny ring")]
    [TestCase(48, 1_500, 20, 4096, 64, Description = "many threads")]
    [TestCase(24, 3_000, 0, 4096, 4, Description = "more threads than lanes: most share the common one")]
    public async Task EveryRecordIsReadOnce(int threads, int records, int signals, int ring, int lanes)
    {
        await using SharedTarget shared = await SharedTarget.StartAsync(new LaneLayout(0, ring, lanes));
        using LaneReader reader = new(shared.Region);
        RecordLedger ledger = new();
        int runs = 3;
        ulong drops = 0;
        for (int run = 0; run < runs; run++)
        {
            ledger.Clear();
            shared.Target.SendLine($"run {threads} {records} {signals}");
            Task<List<LaneReport>> reports = Task.Run(shared.ReadReports);
            while (!reports.IsCompleted)
            {
                ReadAll(reader, ledger);
            }

            ReadAll(reader, ledger);
            ledger.AssertEqual(await reports);
            drops += (await reports).Aggregate(0UL, (sum, r) => sum + r.Dropped);
            Assert.That(ledger.Count + (await reports).Aggregate(0UL, (sum, r) => sum + r.Dropped), Is.EqualTo((ulong)(threads * (records + signals))));
            Assert.That(reader.Drops, Is.EqualTo(drops));
        }

        Assert.That((reader.BrokenLanes, reader.Abandoned), Is.EqualTo((0, 0)));
        shared.End();
    }

    [Test]
    public async Task WithoutAReaderTheRingKeepsTheFirstAndTheDropsAreCounted()
    {
        const int Records = 1000;
        await using SharedTarget shared = await SharedTarget.StartAsync(new LaneLayout(0, 128, 2));
        shared.Target.SendLine($"run 1 {Records} 0");
        LaneReport report = shared.ReadReports()[0];
        using LaneReader reader = new(shared.Region);
        RecordLedger ledger = new();
        ReadAll(reader, ledger);
        ledger.AssertEqual([report]);
        Assert.That((report.Written, report.Dropped), Is.EqualTo((2UL, Records - 2UL)), "records of 40 and 64 bytes fit into 128, and no third");
        Assert.That(reader.Drops, Is.EqualTo(report.Dropped));

        // Gone from the target, it can be read here still, until it is disposed.
        Assert.That(await SharedTarget.BorrowAsync(shared.Handle, task => shared.Region.Remove(shared.Handle, task)), Is.EqualTo(FastTrap.Native.Errno.None));
        Assert.That(File.ReadAllText($"/proc/{shared.Target.ProcessId}/maps"), Does.Not.Contain(SharedRegion.Name));
        bool IsMapped(string start) => File.ReadLines("/proc/self/maps").Any(l => l.StartsWith($"{start}-", StringComparison.Ordinal) && l.Contains(SharedRegion.Name, StringComparison.Ordinal));
        string here = shared.Region.Memory.DangerousGetHandle().ToString("x", null);
        shared.Region.Dispose();
        Assert.That(reader.Drops, Is.EqualTo(report.Dropped));
        Assert.That(IsMapped(here), Is.True);
        reader.Dispose();
        Assert.Throws<ObjectDisposedException>(() => shared.Region.CountDrops());
        Assert.That(IsMapped(here), Is.False);
        shared.End();
    }

    [TestCase("half", 5, Description = "its length is known: what stands behind it is read at the end")]
    [TestCase("hole", 3, Description = "not even its length was written")]
    public async Task OneWhoIsKilledInTheMiddleOfARecordLosesThatOne(string command, int expected)
    {
        await using SharedTarget shared = await SharedTarget.StartAsync(new LaneLayout(0, 4096));
        shared.Target.SendLine(command);
        shared.Target.ReadLineStarting("held");
        using LaneReader reader = new(shared.Region);
        RecordLedger ledger = new();
        ReadAll(reader, ledger);
        Assert.That((ledger.Count, reader.Abandoned), Is.EqualTo((3UL, 0)), "while it lives it may go on");
        shared.Target.SendLine("now");
        Assert.That(shared.Target.WaitForExit(), Is.EqualTo(new TargetExit(0, FastTrap.Native.Signal.SIGKILL)));
        ReadAll(reader, ledger);
        Assert.That(ledger.Count, Is.EqualTo(3));
        reader.ReadToEnd();
        ReadAll(reader, ledger);
        Assert.That((ledger.Count, reader.Abandoned, reader.BrokenLanes), Is.EqualTo(((ulong)expected, 1, 0)));
        Assert.That(ledger.Wrong, Is.Empty);
    }

    [Test]
    public async Task AForkChildSeesThatItIsNotMeant()
    {
        await using SharedTarget shared = await SharedTarget.StartAsync(new LaneLayout(64));
        shared.Target.SendLine("fork");
        Assert.That(shared.Target.ReadLineStarting("guard "), Is.EqualTo("guard 1 0"));
        FastTrap.Native.IPlatform platform = shared.Handle.Platform;
        Assert.That(platform.OpenMemory(shared.Target.ProcessId, out FastTrap.Native.TargetMemory memory), Is.EqualTo(FastTrap.Native.Errno.None));
        using (memory)
        {
            Assert.That(shared.Region.SetRecording(platform, memory, isOn: false), Is.EqualTo(FastTrap.Native.Errno.None));
            shared.Target.SendLine("fork");
            Assert.That(shared.Target.ReadLineStarting("guard "), Is.EqualTo("guard 0 0"));
            Assert.That(shared.Region.SetRecording(platform, memory, isOn: true), Is.EqualTo(FastTrap.Native.Errno.None));
        }

        shared.Target.SendLine("fork");
        Assert.That(shared.Target.ReadLineStarting("guard "), Is.EqualTo("guard 1 0"));
        shared.End();
    }

    private static void ReadAll(LaneReader reader, RecordLedger ledger)
    {
        while (reader.TryRead(out RecordBatch batch))
        {
            foreach (LaneRecord record in batch)
            {
                ledger.Add(record);
            }
        }
    }
}
