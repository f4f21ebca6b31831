using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Queries armed by jumps: counts are the target's own, whoever runs, comes or goes meanwhile.</summary>
[TestFixture]
public sealed class JumpTests : LiveTest
{
    private const int Threads = 16;

    [Test]
    public async Task CountsOfSixteenThreadsAreExact()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, [$"{Threads}"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum entries = await process.On("a.out:hot:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
        ProbeSum sums = await process.On("a.out:work:entry").Count().EnableAsync();
        Assert.That((entries.Mechanisms.Jump, entries.Mechanisms.Breakpoint, entries.Mechanisms.Reasons.Count), Is.EqualTo((1, 0, 0)));
        Assert.That(target.SendAndReadCount("go 50000", "hot"), Is.EqualTo(50_000L * Threads));
        Assert.That((entries.Sum, entries.Count, entries.Minimum, entries.Maximum), Is.EqualTo((50_000L * Threads, 50_000L * Threads, 1L, 1L)));
        await entries.DisposeAsync();
        target.SendAndReadCount("go 1000", "hot");
        Assert.That(entries.Sum, Is.EqualTo(50_000L * Threads));
        await sums.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        await process.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    /// <summary>The word at fs:0 is the thread's pointer by the ABI: what has no such word, or another's, is counted all the same.</summary>
    [Test]
    public async Task ThreadsWithStrangeBasesOfFsAreCounted()
    {
        const int Calls = 1000;
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum hot = await process.On("a.out:hot:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
        Assert.That(target.SendAndReadCount($"base {Calls}", "hot"), Is.EqualTo(hot.Count));
        await hot.DisposeAsync();
        var records = await process.On("a.out:hot:return").WithMechanism(ProbeMechanism.Jump).Record(c => c.ReturnValue).EnableAsync();
        target.SendAndReadCount($"base {Calls}", "hot");
        await records.DisposeAsync();
        Assert.That(await records.ReadAllAsync().CountAsync(), Is.EqualTo(hot.Count));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task RecordsAreThoseOfTheCalls()
    {
        const int Calls = 1000;
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["4"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        var records = await process.On("a.out:hot:entry").Where(c => (int)c.Arg(0) % 2 == 0).WithMechanism(ProbeMechanism.Jump)
            .Record(c => new { Value = (int)c.Arg(0), Triple = (long)c.Arg(0) * 3, c.ThreadId, Bad = c.Read<int>(8) }).EnableAsync();
        target.SendAndReadCount($"go {Calls}", "hot");
        await records.DisposeAsync();
        Dictionary<int, List<int>> byThread = [];
        long last = 0;
        await foreach (var record in records.ReadAllAsync())
        {
            Assert.That((record.Value.Triple, record.Value.ThreadId, record.Value.Bad), Is.EqualTo((record.Value.Value * 3L, record.ThreadId, 0)));
            Assert.That((record.IsComplete, record.Probe.Function, record.Probe.Name), Is.EqualTo((false, "hot", "entry")));
            Assert.That(record.TimestampNs, Is.GreaterThanOrEqualTo(last));
            last = record.TimestampNs;
            if (!byThread.TryGetValue(record.ThreadId, out List<int>? values))
            {
                byThread.Add(record.ThreadId, values = []);
            }

            values.Add(record.Value.Value);
        }

        Assert.That(byThread.Keys.Order(), Is.EqualTo(Directory.GetDirectories($"/proc/{target.ProcessId}/task").Select(d => int.Parse(Path.GetFileName(d), null)).Order().Skip(1)));
        Assert.That(byThread.Values, Is.All.EqualTo(Enumerable.Range(0, Calls).Where(v => v % 2 == 0)));
        Assert.That((records.Count, records.LostCount, records.IncompleteCount), Is.EqualTo((Calls * 2L, 0L, Calls * 2L)));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [TestCase("a.out:*:entry")]
    [TestCase("a.out:*:return")]
    [TestCase("a.out:loop_on:*")]
    public async Task StaticProbesAtAwkwardPlacesCountWhateverElseComes(string other)
    {
        const int Rounds = 500;
        using TargetProcess target = TargetProcess.StartTarget("usdtsites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Dictionary<string, ProbeSum> sums = [];
        foreach (string name in new[] { "straddle-nop", "straddle-add", "last-return", "last-nop", "loop-on", "loop-before", "only-jump", "relative", "unnamed" })
        {
            sums.Add(name, await process.On($"fasttrap_sites*:::{name}").Sum(c => (long)(int)c.Arg(0)).EnableAsync());
        }

        TestContext.Out.WriteLine(string.Join("; ", sums.Select(s => $"{s.Key} {(s.Value.Mechanisms.Jump != 0 ? "jump" : string.Join(' ', s.Value.Mechanisms.Reasons.Keys))}")));
        Assert.That(sums.Values.Sum(s => s.Mechanisms.Jump), Is.GreaterThan(4));
        target.SendLine($"go {Rounds}");
        target.ReadLineStarting("checksum ");
        AssertCounts(1);

        // What comes and goes beside them, or inside of their windows.
        ProbeSum newcomer = await process.On(other).Count().EnableAsync();
        target.SendLine($"go {Rounds}");
        target.ReadLineStarting("checksum ");
        AssertCounts(2);
        await newcomer.DisposeAsync();
        target.SendLine($"go {Rounds}");
        target.ReadLineStarting("checksum ");
        AssertCounts(3);
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));

        void AssertCounts(int times)
        {
            foreach ((string name, ProbeSum sum) in sums)
            {
                Assert.That((name, sum.Count), Is.EqualTo((name, target.GetCount(name) * times)));
            }
        }
    }

    [TestCase(4, "")]
    [TestCase(4, "-fcf-protection=full")]
    [TestCase(200, "", Explicit = true, Reason = "Takes long where many threads share few processors.")]
    public async Task RoundsOfArmingAndDisarmingWhileThreadsRun(int rounds, string flags)
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", new TargetVariant(Flags: flags), [$"{Threads}"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        target.SendLine("run");
        target.ReadLineStarting("running");
        for (int round = 0; round < rounds; round++)
        {
            ProbeSum hot = await process.On(round % 2 == 0 ? "a.out:hot:entry" : "a.out:hot:return").Sum(c => (long)c.Arg(0)).EnableAsync();
            Assert.That(hot.Mechanisms.Jump, Is.EqualTo(1), string.Join("; ", hot.Mechanisms.Reasons.Keys));
            long before = hot.Count;
            WaitUntil(() => hot.Count > before + 100, "hits");
            await hot.DisposeAsync();
            long after = hot.Count;
            if (round % 4 == 0)
            {
                TextCheck.AssertClean(target.ProcessId);
                Assert.That(hot.Count, Is.EqualTo(after), "a hit after the disposal");
            }
        }

        target.SendLine("stop");
        target.ReadCount("hot");
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }
}
