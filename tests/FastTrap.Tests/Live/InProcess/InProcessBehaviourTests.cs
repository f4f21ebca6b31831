using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>A program run alone and with traps that lead to code in it prints the same, under signals, faults, forks and arming; its text is restored.</summary>
[TestFixture]
public sealed class InProcessBehaviourTests : LiveTest
{
    [TestCase("hashing", "a.out:*:return", "64", "1")]
    [TestCase("ripmix", "a.out:*:*", "20")]
    [TestCase("calls", "a.out:*:*", "1", "3")]
    [TestCase("threadedcpp", "a.out:*:entry", "2", "2")]
    [TestCase("signals", "a.out:work_*:*", "4", "300", "20", "500")]
    [TestCase("signals", "a.out:fault_*:*", "4", "300", "20", "500")]
    public async Task TheSameIsPrinted(string name, string description, params string[] arguments)
    {
        IReadOnlyList<string> alone = RunAlone(name, null, arguments);
        using TargetProcess target = TargetProcess.StartTarget(name, null, arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum hits = await process.On(description).WithMechanism(ProbeMechanism.InProcessTrap).Count().EnableAsync();
        Assert.That((hits.Mechanisms.Jump, hits.Mechanisms.Breakpoint), Is.EqualTo((0, 0)));
        TestContext.Out.WriteLine($"{hits.Mechanisms.InProcessTrap} in-process traps, {hits.Enablings.Sum(e => e.Failures.Count)} refused");
        target.SendLine("go");
        target.ReadLineStarting(LastLineOf(name));
        await process.DisposeAsync();
        Assert.That(hits.Count, Is.GreaterThan(0));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(Calls(target.Lines), Is.EqualTo(Calls(alone)));
    }

    [Test]
    public async Task ForkChildrenGetCleanTextAndParentsExactCounts()
    {
        using TargetProcess target = TargetProcess.StartTarget("forks", null, ["20"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum other = await process.On("a.out:other:return").WithMechanism(ProbeMechanism.InProcessTrap).Count().EnableAsync();
        target.SendLine("go");
        target.ReadLineStarting("count children");
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Assert.That(other.Count, Is.GreaterThanOrEqualTo(target.GetCount("other")));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    [Test]
    public async Task RoundsOfArmingAndDisarmingWhileThreadsRun()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["8"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        target.SendLine("run");
        target.ReadLineStarting("running");
        for (int round = 0; round < 4; round++)
        {
            ProbeSum hot = await process.On(round % 2 == 0 ? "a.out:hot:entry" : "a.out:hot:return").WithMechanism(ProbeMechanism.InProcessTrap).Count().EnableAsync();
            Assert.That(hot.Mechanisms.InProcessTrap, Is.EqualTo(1));
            WaitUntil(() => hot.Count > 1000, "hits");
            await hot.DisposeAsync();
            long after = hot.Count;
            TextCheck.AssertClean(target.ProcessId);
            Assert.That(hot.Count, Is.EqualTo(after), "a hit after the disposal");
        }

        target.SendLine("stop");
        target.ReadCount("hot");
        await process.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    /// <summary>How many rounds a thread needs until enough signals have come is not the program's own.</summary>
    private static IEnumerable<string> Calls(IEnumerable<string> lines) => Comparable(lines).Where(l => !l.StartsWith("count work_global", StringComparison.Ordinal));
}
