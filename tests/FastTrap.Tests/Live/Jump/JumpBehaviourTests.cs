using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>What only jumps can run into: enabling under signals, faults in windows, exceptions, newcomers. What is asked of all mechanisms is in <see cref="SameBehaviourTests"/>.</summary>
[TestFixture]
public sealed class JumpBehaviourTests : LiveTest
{
    [Test]
    public async Task EnablingUnderSignals()
    {
        using TargetProcess target = TargetProcess.StartTarget("signals", null, ["8", "300", "0", "20000"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        target.SendLine("go");
        string[] descriptions = ["a.out:work_*:entry", "a.out:*:return", "a.out:*:entry", "libc.so.6:*:entry"];
        int jumps = 0;
        for (int round = 0; round < 24; round++)
        {
            ProbeSum hits = await process.On(descriptions[round % descriptions.Length]).Count().EnableAsync();
            jumps += hits.Mechanisms.Jump;
            await hits.DisposeAsync();
        }

        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        TestContext.Out.WriteLine($"{jumps} jumps, {target.Lines.FirstOrDefault(l => l.StartsWith("signals ", StringComparison.Ordinal))}");
        Assert.That(jumps, Is.GreaterThan(100));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    [Test]
    public async Task AFaultInTheMiddleOfAWindowIsAnsweredThere()
    {
        using TargetProcess target = TargetProcess.StartTarget("refault");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum loads = await process.On("a.out:load:entry").Count().EnableAsync();
        Assert.That(loads.Mechanisms.Jump, Is.EqualTo(1), Describe(loads));
        Assert.That(target.SendAndReadCount("go 50", "load"), Is.EqualTo(100));
        Assert.That((loads.Count, loads.Mechanisms.Jump, loads.Mechanisms.Breakpoint), Is.EqualTo((100L, 0, 1)));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Does.Contain("faults 50"));
    }

    [Test]
    public async Task ExceptionsPassThroughProbedFunctions()
    {
        const int Calls = 2000;
        using TargetProcess target = TargetProcess.StartTarget("throws");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum thrower = await process.On("a.out:*thrower*:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
        ProbeSum passer = await process.On("a.out:*passer*:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
        ProbeSum runtime = await process.On("libstdc++*:*:entry").Count().EnableAsync();
        ProbeSum unwinder = await process.On("libgcc_s*:*:return").Count().EnableAsync();
        target.SendLine($"go {Calls}");
        Assert.That((target.ReadCount("thrown"), target.ReadCount("again"), target.ReadCount("caught")), Is.EqualTo((Calls, Calls / 2, Calls + (Calls / 2))));
        await process.DisposeAsync();
        TestContext.Out.WriteLine($"{Describe(thrower)}\n{Describe(passer)}\n{Describe(runtime)}\n{Describe(unwinder)}");
        Assert.That((thrower.Sum, passer.Sum), Is.EqualTo(((long)Calls, (long)Calls)));
        Assert.That(runtime.Count, Is.GreaterThan(Calls));
        Assert.That(unwinder.Count, Is.GreaterThan(Calls));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [TestCase("")]
    [TestCase("-fcf-protection=full")]
    public async Task NewcomersTurnJumpsIntoBreakpointsAndNothingIsLost(string flags)
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", new TargetVariant(Flags: flags), ["8"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum hot = await process.On("a.out:hot:entry").Count().EnableAsync();
        Assert.That(hot.Mechanisms.Jump, Is.EqualTo(1), Describe(hot));
        target.SendLine("run");
        target.ReadLineStarting("running");
        WaitUntil(() => hot.Count > 1000, "hits");

        // At the same instruction, then inside of the window, then everywhere.
        foreach (string newcomer in new[] { "a.out:hot:entry", "a.out:hot:return", "a.out:hot:*" })
        {
            ProbeEnabling other = await process.EnableAsync(newcomer, CountOnly);
            Assert.That((hot.Mechanisms.Jump, hot.Mechanisms.Breakpoint), Is.EqualTo((0, 1)));
            WaitUntil(() => other.HitCount > 1000, "hits");
            await other.DisposeAsync();
        }

        target.SendLine("stop");
        long count = target.ReadCount("hot");
        Assert.That(hot.Count, Is.EqualTo(count));
        Assert.That(
            async () => await process.On("a.out:hot:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync(),
            Throws.InstanceOf<FastTrapException>().With.Message.Contains("Jump mechanism was asked for"));
        await hot.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        await process.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    /// <summary>The window is behind ENDBR64, the breakpoint that takes its place on it: who has passed the one and is not through the other is counted all the same.</summary>
    [Test]
    public async Task ThreadsBetweenTheBreakpointAndTheWindowAreCounted()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", new TargetVariant(Flags: "-fcf-protection=full"), ["4"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        for (int round = 0; round < 60; round++)
        {
            ProbeSum hot = await process.On("a.out:hot:entry").Count().EnableAsync();
            Assert.That(hot.Mechanisms.Jump, Is.EqualTo(1), Describe(hot));
            target.SendLine("run");
            target.ReadLineStarting("running");
            ProbeEnabling other = await process.EnableAsync("a.out:hot:entry", CountOnly);
            target.SendLine("stop");
            long count = target.ReadCount("hot");
            Assert.That(hot.Count, Is.EqualTo(count), $"round {round}");
            await other.DisposeAsync();
            await hot.DisposeAsync();
        }

        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task CountsOutliveTheProcess()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum hot = await process.On("a.out:hot:return").Count().EnableAsync();
        target.SendAndReadCount("go 1000", "hot");
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
        await process.Completion.WaitAsync(Patience);

        // What was gathered is there after the end of the process.
        Assert.That(hot.Count, Is.EqualTo(2000));
    }

    private static string Describe(ProbeResult result) =>
        $"jump {result.Mechanisms.Jump}, breakpoint {result.Mechanisms.Breakpoint}: {string.Join("; ", result.Mechanisms.Reasons.OrderByDescending(r => r.Value).Select(r => $"{r.Value} {r.Key}"))}";
}
