using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Several queries at one instruction: one trampoline runs the programs of all, whoever comes and goes.</summary>
[TestFixture]
public sealed class SharedSiteTests : LiveTest
{
    private const int Threads = 8;

    [Test]
    public async Task EachOfSeveralQueriesCountsByJump()
    {
        const int Calls = 10_000;
        using TargetProcess target = TargetProcess.StartTarget("threads", null, [$"{Threads}"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum first = await process.On("a.out:hot:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
        ProbeSum second = await process.On("a.out:hot:entry").WithMechanism(ProbeMechanism.Jump).Sum(c => (long)c.Arg(0)).EnableAsync();
        ProbeSum alias = await process.On("a.out:hot:0").Where(c => c.Arg(0) % 2 == 0).Count().EnableAsync();
        Assert.That((first.Mechanisms.Jump, second.Mechanisms.Jump, alias.Mechanisms.Jump, alias.Mechanisms.Breakpoint), Is.EqualTo((1, 1, 1, 0)));
        Assert.That(target.SendAndReadCount($"go {Calls}", "hot"), Is.EqualTo(first.Count));
        Assert.That((first.Count, second.Count, alias.Count), Is.EqualTo(((long)Threads * Calls, (long)Threads * Calls, Threads * Calls / 2L)));
        Assert.That(second.Sum, Is.EqualTo(Threads * (Calls * (Calls - 1L) / 2)));

        // The first goes; a handler comes, for which all are served by a trap; it goes, too.
        await first.DisposeAsync();
        target.SendAndReadCount($"go {Calls}", "hot");
        Assert.That((first.Count, second.Count, alias.Count), Is.EqualTo(((long)Threads * Calls, 2L * Threads * Calls, (long)Threads * Calls)));
        ProbeEnabling handler = await process.EnableAsync("a.out:hot:entry", CountOnly);
        Assert.That((second.Mechanisms.Jump, alias.Mechanisms.Jump), Is.EqualTo((0, 0)));
        target.SendAndReadCount("go 100", "hot");
        Assert.That((handler.HitCount, second.Count, alias.Count), Is.EqualTo((Threads * 100L, Threads * ((2L * Calls) + 100), Threads * (Calls + 50L))));
        await handler.DisposeAsync();
        await second.DisposeAsync();
        target.SendAndReadCount("go 100", "hot");
        Assert.That((second.Count, alias.Count), Is.EqualTo((Threads * ((2L * Calls) + 100), Threads * (Calls + 100L))));
        await alias.DisposeAsync();
        await EndAsync(target, process);
    }

    [TestCase("", 6)]
    [TestCase("-fcf-protection=full", 6)]
    [TestCase("", 100, Explicit = true, Reason = "The long run.")]
    public async Task NoHitIsLostOrDoubledWhileOthersComeAndGo(string flags, int rounds)
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", new TargetVariant(Flags: flags), [$"{Threads}"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum entries = await process.On("a.out:hot:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
        target.SendLine("run");
        target.ReadLineStarting("running");
        for (int round = 0; round < rounds; round++)
        {
            // What the target counts meanwhile, before each call, bounds what the newcomer counts.
            long before = entries.Count;
            ProbeSum newcomer = await process.On("a.out:hot:entry").Count().EnableAsync();
            long enabled = entries.Count;
            ProbeSum other = await process.On("a.out:hot:entry").WithMechanism(ProbeMechanism.Jump).Sum(c => (long)c.Arg(0)).EnableAsync();
            Assert.That((newcomer.Mechanisms.Jump, other.Mechanisms.Jump), Is.EqualTo((1, 1)), string.Join("; ", newcomer.Mechanisms.Reasons.Keys));
            WaitUntil(() => other.Count > 1000, "hits");
            await (round % 2 == 0 ? newcomer : other).DisposeAsync();
            long disposing = entries.Count;
            await (round % 2 == 0 ? other : newcomer).DisposeAsync();
            long disposed = entries.Count;
            long count = newcomer.Count;
            long hits = round % 2 == 0 ? 0 : disposing - enabled;
            Assert.That(count, Is.InRange(hits - Threads, disposed - before + Threads), $"round {round}");
            WaitUntil(() => entries.Count > disposed + 1000, "hits of the one that stays");
            Assert.That(newcomer.Count, Is.EqualTo(count), "a hit after the disposal");
        }

        target.SendLine("stop");
        Assert.That(target.ReadCount("hot"), Is.EqualTo(entries.Count));
        Assert.That(entries.Mechanisms.Jump, Is.EqualTo(1));
        await EndAsync(target, process);
    }

    /// <summary>Records of a query that shares its instruction are those of the calls, whoever shares it; in-process traps are shared in the same way.</summary>
    [TestCase(ProbeMechanism.Jump)]
    [TestCase(ProbeMechanism.InProcessTrap)]
    public async Task RecordsGoOnWhileOthersShareTheSite(ProbeMechanism mechanism)
    {
        int calls = mechanism == ProbeMechanism.Jump ? 1000 : 100;
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        var records = await process.On("a.out:hot:entry").WithMechanism(mechanism).Record(c => c.Arg(0)).EnableAsync();
        target.SendAndReadCount($"go {calls}", "hot");
        ProbeSum other = await process.On("a.out:hot:entry").WithMechanism(mechanism).Count().EnableAsync();
        Assert.That(other.Mechanisms.Breakpoint, Is.Zero, string.Join("; ", other.Mechanisms.Reasons.Keys));
        target.SendAndReadCount($"go {calls}", "hot");
        await other.DisposeAsync();
        target.SendAndReadCount($"go {calls}", "hot");
        await records.DisposeAsync();
        target.SendAndReadCount($"go {calls}", "hot");
        Assert.That(other.Count, Is.EqualTo(2L * calls));
        List<ulong> values = [];
        await foreach (ProbeRecord<ulong> record in records.ReadAllAsync())
        {
            values.Add(record.Value);
        }

        Assert.That(records.Mechanisms.Breakpoint, Is.Zero);
        Assert.That(values.Order(), Is.EqualTo(Enumerable.Range(0, 6 * calls).Select(i => (ulong)(i / 6))));
        await EndAsync(target, process);
    }

    private static async Task EndAsync(TargetProcess target, TracedProcess process)
    {
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }
}
