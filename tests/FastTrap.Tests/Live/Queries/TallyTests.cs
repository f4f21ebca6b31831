using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Hits counted by probe, and what they cost, by each mechanism.</summary>
[TestFixture]
public sealed class TallyTests : LiveTest
{
    [TestCase(ProbeMechanism.Jump)]
    [TestCase(ProbeMechanism.InProcessTrap)]
    [TestCase(ProbeMechanism.Breakpoint)]
    public async Task EachProbeHasItsCount(ProbeMechanism mechanism)
    {
        using TargetProcess target = TargetProcess.StartTarget("calls");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        IReadOnlyList<ProbeTally> tallies = await process.EnableAsync<ProbeTally>(
        [
            ProbeQuery.On("a.out:args*:entry").WithMechanism(mechanism).CountByProbe(),
            process.On("a.out:recurse:return").WithMechanism(mechanism).CountByProbe(),
            process.On("a.out:recurse:entry").Where(c => c.Arg(0) > 1_000_000).WithMechanism(mechanism).CountByProbe(),
        ]);
        Assert.That(tallies.Select(t => t.Enablings.Single().Failures.Count), Is.All.Zero);
        Assert.That(tallies.SelectMany(t => t.GetCosts()).Select(c => c.Mechanism), Is.All.EqualTo(mechanism));
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        foreach (ProbeTally tally in tallies)
        {
            await tally.DisposeAsync();
        }

        Dictionary<string, long> counts = tallies.SelectMany(t => t.GetCounts()).ToDictionary(c => c.Key.Function, c => c.Value);
        Assert.That(counts, Has.Count.EqualTo(12));
        foreach ((string function, long count) in counts)
        {
            Assert.That(count, Is.EqualTo(target.GetCount(function)).And.Positive, function);
        }

        Assert.That(tallies[0].Count, Is.EqualTo(counts.Where(c => c.Key != "recurse").Sum(c => c.Value)));
        Assert.That((tallies[2].Count, tallies[2].GetCounts().Count), Is.EqualTo((0L, 0)), "the condition never holds");
        MechanismCost cost = tallies[1].GetCosts().Single();
        Assert.That((cost.Mechanism, cost.Hits), Is.EqualTo((mechanism, counts["recurse"])));
        Assert.That((cost.PredictedNs > 0, cost.MeasuredNs > 0), Is.EqualTo((mechanism != ProbeMechanism.Breakpoint, mechanism == ProbeMechanism.Breakpoint)));
        if (mechanism == ProbeMechanism.InProcessTrap)
        {
            // A trap goes through the kernel twice, which is no matter of nanoseconds, nor of milliseconds.
            Assert.That(cost.PredictedNs, Is.InRange(100, 100_000));
        }

        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        target.WaitForExit();
    }

    [Test]
    public async Task WhatWasNotAskedOfThisProcessIsRefused()
    {
        using TargetProcess first = TargetProcess.StartTarget("threads", arguments: ["2"]);
        using TargetProcess second = TargetProcess.StartTarget("threads", arguments: ["2"]);
        TracedProcess process = await Tracer.AttachAsync(first.ProcessId);
        TracedProcess other = await Tracer.AttachAsync(second.ProcessId);
        Assert.That(async () => await process.EnableAsync<ProbeSum>([other.On("a.out:hot:entry").Count()]), Throws.ArgumentException.With.Message.Contains($"{second.ProcessId}"));
        Assert.That(async () => await Tracer.EnableAsync(process.On("a.out:hot:entry").Count()), Throws.ArgumentException.With.Message.Contains("ProbeQuery.On"));
        Assert.That(async () => await ProbeQuery.On("a.out:hot:entry").Count().EnableAsync(), Throws.InvalidOperationException);
        FastTrapException refused = Assert.ThrowsAsync<FastTrapException>(
            async () => await process.EnableAsync<ProbeSum>([process.On("a.out:hot:entry").Count(), process.On("a.out:nothing:entry").Count()]))!;
        Assert.That(refused.Message, Does.StartWith(process.ExplainNoMatch("a.out:nothing:entry")));
        TextCheck.AssertClean(first.ProcessId);
    }

    /// <summary>A thread that does nothing but calls is in the code of its probe for a good part of its time.</summary>
    [Test]
    public async Task LooksFindThreadsInTheCodeOfQueries()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", arguments: ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ThreadLook look = await process.LookAtThreadsAsync();
        Assert.That((look.Running, look.InQueryCode), Is.EqualTo((0, 0)), "all wait");
        ProbeSum sum = await process.On("a.out:hot:entry").WithMechanism(ProbeMechanism.Jump).Sum(c => (long)c.Arg(0)).EnableAsync();
        target.SendLine("run");
        int running = 0;
        int inCode = 0;
        for (int looks = 0; looks < 10_000 && (inCode == 0 || running == inCode || look.ProcessorTime == TimeSpan.Zero); looks++)
        {
            look = await process.LookAtThreadsAsync();
            running += look.Running;
            inCode += look.InQueryCode;
        }

        Assert.That((running, inCode), Is.GreaterThan((1, 0)));
        Assert.That(inCode, Is.Positive.And.LessThan(running));
        Assert.That(look.ProcessorTime, Is.GreaterThan(TimeSpan.Zero));
        long truth = target.SendAndReadCount("stop", "hot");
        Assert.That(sum.Count, Is.EqualTo(truth));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit().Code, Is.Zero);
    }
}
