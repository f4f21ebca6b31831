using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>A program run alone and probed prints the same, under signals, faults and forks, whatever the mechanism; its text is restored.</summary>
[TestFixture(ProbeMechanism.Breakpoint)]
[TestFixture(ProbeMechanism.Jump)]
[TestFixture(ProbeMechanism.InProcessTrap)]
public sealed class SameBehaviourTests(ProbeMechanism mechanism) : MechanismTest(mechanism)
{
    [TestCase("hashing", "a.out:sha256_block:*", "64", "1")]
    [TestCase("hashing", "a.out:crc32_of:*", "64", "1")]
    [TestCase("hashing", "a.out:compress_bytes:*", "64", "1")]
    [TestCase("hashing", "a.out:expand_bytes:*", "64", "1")]
    [TestCase("hashing", "a.out:*:return", "64", "1")]
    [TestCase("ripmix", "a.out:*:*", "20")]
    [TestCase("calls", "a.out:*:*", "1", "3")]
    [TestCase("threadedcpp", "a.out:*:*", "2", "2")]
    [TestCase("threadedcpp", "a.out:*:entry", "2", "2")]
    [TestCase("threadedcpp", "libstdc++*:*:entry", "4", "200")]
    [TestCase("threadedcpp", "libstdc++*:*:return", "4", "200")]
    [TestCase("threadedcpp", "libgcc_s*:*:*", "2", "20")]
    [TestCase("threadedcpp", "libgcc_s*:*:entry", "2", "20")]
    public async Task EveryInstructionProbed(string name, string description, params string[] arguments)
    {
        IReadOnlyList<string> alone = RunAlone(name, null, arguments);
        using TargetProcess target = TargetProcess.StartTarget(name, null, arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Counting enabling = await CountAsync(process, description);
        Assert.That(enabling.IsAsAsked, enabling.ToString());
        target.SendLine("go");
        target.ReadLineStarting(LastLineOf(name));
        await process.DisposeAsync();
        Assert.That(enabling.HitCount, Is.GreaterThan(0));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(Comparable(target.Lines), Is.EqualTo(alone));
    }

    [TestCase("a.out:work_*:entry")]
    [TestCase("a.out:work_*:*")]
    [TestCase("a.out:*:entry")]
    [TestCase("a.out:fault_*:*")]
    [TestCase("a.out:in_handler:*")]
    [TestCase("a.out:*:return")]
    public async Task SignalsAndFaultsAreSeenAtOriginalAddresses(string description)
    {
        string[] arguments = ["4", "300", "20", IsFast ? "2000" : "200"];
        IReadOnlyList<string> alone = RunAlone("signals", null, arguments);
        using TargetProcess target = TargetProcess.StartTarget("signals", null, arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Counting enabling = await CountAsync(process, description);
        Assert.That(enabling.IsAsAsked, enabling.ToString());
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.That(enabling.HitCount, Is.GreaterThan(0));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines.Where(l => l.StartsWith("FAIL", StringComparison.Ordinal)), Is.Empty);
        Assert.That(Comparable(target.Lines).Where(l => !l.StartsWith("count work_global", StringComparison.Ordinal)),
            Is.EqualTo(alone.Where(l => !l.StartsWith("count work_global", StringComparison.Ordinal))));
    }

    [Test]
    public async Task ExactCountsUnderSignals()
    {
        using TargetProcess target = TargetProcess.StartTarget("signals", null, IsFast ? ["4", "8000", "0", "2000"] : ["4", "500", "0", "300"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Counting work = await CountAsync(process, "a.out:work_global:entry");
        Counting done = await CountAsync(process, "a.out:work_global:return");
        Counting handler = await CountAsync(process, "a.out:in_handler:entry");
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.That((work.HitCount, done.HitCount), Is.EqualTo((target.GetCount("work_global"), target.GetCount("work_global"))));
        Assert.That(handler.HitCount, Is.EqualTo(target.GetCount("in_handler")));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [TestCase("a.out:other:entry", "a.out:work:return")]
    [TestCase("a.out:other:*", "a.out:work:*")]
    [TestCase("libc*:*fork*:*", "libc*:*exec*:*")]
    [TestCase("libc*:clone*:*", "libc*:*spawn*:*")]
    [TestCase("libc.so.6:*:return", "libc.so.6:*:entry")]
    public async Task ForkChildrenGetCleanTextAndParentsExactCounts(string first, string second)
    {
        using TargetProcess target = TargetProcess.StartTarget("forks", null, ["20"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await CountAsync(process, first);
        await CountAsync(process, second);
        Counting other = await CountAsync(process, "a.out:other:entry");
        target.SendLine("go");
        target.ReadLineStarting("count children");
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Assert.That(other.HitCount, Is.GreaterThanOrEqualTo(target.GetCount("other")));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines.Where(l => l.StartsWith("FAIL", StringComparison.Ordinal)), Is.Empty);
    }

    [TestCase("entry")]
    [TestCase("*")]
    public async Task OwnTrapsAndTrapSignalsArrive(string name)
    {
        using TargetProcess target = TargetProcess.StartTarget("ownint3", null, ["50"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Counting hot = await CountAsync(process, $"a.out:hot:{name}");
        target.SendLine("go");
        long count = target.ReadCount("hot");
        await process.DisposeAsync();

        // A query counts all probes together.
        long first = IsQuery ? hot.HitCount : hot.Enabling.GetHitCount(hot.Enabling.Probes[0]);
        Assert.That(first, IsQuery && name != "entry" ? Is.GreaterThan(count) : Is.EqualTo(count));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task OwnTrapIsRefused()
    {
        using TargetProcess target = TargetProcess.StartTarget("ownint3", null, ["5"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Counting enabling = await CountAsync(process, "a.out:*trap_here:*");
        Assert.That(enabling.Enabling.Failures.Select(f => f.Refusal), Does.Contain(ProbeRefusal.AlreadyBreakpoint));
        target.SendLine("go");
        target.ReadCount("hot");
        await process.DisposeAsync();
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [TestCase("handler")]
    [TestCase("ignore")]
    [TestCase("default")]
    public async Task BlockedTrapSignalStaysBlocked(string disposition)
    {
        using TargetProcess target = TargetProcess.StartTarget("blocked", null, ["100", disposition]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Counting hot = await CountAsync(process, "a.out:hot:entry");
        Counting slot = await CountAsync(process, "a.out:hot_slot:*");
        target.SendLine("go");
        long count = target.ReadCount("hot");
        await process.DisposeAsync();
        Assert.That(hot.HitCount, Is.EqualTo(count));
        Assert.That(slot.HitCount, Is.GreaterThan(0));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task NoSystemCallIsInterruptedByAttachEnableAndDetach()
    {
        using TargetProcess target = TargetProcess.StartTarget("eintr");
        for (int round = 0; round < 5; round++)
        {
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            Counting entries = await CountAsync(process, IsFast ? "*:*:entry" : "a.out:*:entry");
            Assert.That(entries.Jumps, Mechanism == ProbeMechanism.Jump ? Is.GreaterThan(1000) : Is.Zero);
            await process.DisposeAsync();
        }

        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines.Where(l => l.StartsWith("eintr ", StringComparison.Ordinal)), Is.Not.Empty.And.All.EndsWith(" 0"));
    }
}
