using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>Traps that lead to code in the target: with a tracer, and without one that was killed; beside what the target does with SIGTRAP itself.</summary>
[TestFixture]
public sealed class InProcessTrapTests : LiveTest
{
    private const int Threads = 4;
    private const int Calls = 1500;

    /// <summary>Microseconds between a timer's signals: each stops its thread if there is a tracer, and the thread is to get on.</summary>
    private const int SignalsUnderATracer = 500;
    private const int Signals = 70;

    /// <summary>Calls without a tracer: they cost a microsecond each.</summary>
    private const int ManyCalls = 40_000;

    [Test]
    public async Task CountsAreTheTargetsOwn([Values(0, SignalsUnderATracer)] int microseconds)
    {
        using TargetProcess target = TargetProcess.StartTarget("guarded");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum hot = await CountAsync(process, "a.out:hot:entry");
        ProbeSum done = await CountAsync(process, "a.out:hot:return");
        ProbeSum deep = await CountAsync(process, "a.out:deep:entry");
        target.SendLine($"go {Threads} {Calls} {microseconds}");
        long count = target.ReadCount("hot");
        Assert.That((hot.Sum, done.Sum, deep.Sum), Is.EqualTo((count, count, target.GetCount("deep"))));
        Assert.That(target.GetCount("seen"), microseconds == 0 ? Is.Zero : Is.GreaterThan(10));
        await hot.DisposeAsync();
        target.SendLine($"go {Threads} 100 {microseconds}");
        long more = target.ReadCount("hot");
        Assert.That((hot.Sum, done.Sum), Is.EqualTo((count, count + more)));
        await process.DisposeAsync();
        AssertUntouched(target);
        Quit(target);
    }

    /// <summary>The library's memory is still in the target, and says what was counted without a tracer.</summary>
    [TestCase("InProcessTrap", "default", "")]
    [TestCase("InProcessTrap", "info", "")]
    [TestCase("InProcessTrap", "onstack", "")]
    [TestCase("InProcessTrap", "default", "-fcf-protection=full")]
    [TestCase("Jump", "default", "")]
    public void TheTargetOutlivesATracerThatIsKilled(string mechanism, string action, string flags)
    {
        using PrivateDirectory directory = new("gate");
        using TargetProcess target = TargetProcess.StartTarget("guarded", new TargetVariant(Flags: flags));
        target.SendLine($"action {action}");
        Assert.That(target.ReadLineStarting("was "), Is.EqualTo("was default"));
        string[] descriptions = mechanism == "Jump" ? ["a.out:hot:entry", "a.out:deep:entry"] : ["a.out:hot:entry", "a.out:deep:entry", "a.out:hot:return"];
        using (TargetProcess tracer = SeparateTracer.Start(directory, ["count", $"{target.ProcessId}", mechanism, .. descriptions]))
        {
            Assert.That(tracer.ReadLine(), Is.EqualTo(mechanism == "Jump" ? "armed 2 0 0" : "armed 0 3 0"), () => tracer.Errors);
            target.SendLine("go 2 100 0");
            target.ReadCount("hot");
            Assert.That(tracer.Signal(9), Is.True);
            tracer.WaitForExit();
        }

        long before = LaneMemory.SumOfCounts(target.ProcessId);
        target.SendLine($"go {Threads} {ManyCalls} 0");
        long count = target.ReadCount("hot");
        Assert.That(LaneMemory.SumOfCounts(target.ProcessId) - before, Is.EqualTo(((descriptions.Length - 1) * count) + target.GetCount("deep")));
        if (action != "default")
        {
            foreach (string sent in new[] { "raise", "queue", "int3", "raise" })
            {
                target.SendLine(sent);
                target.ReadLineStarting("handled ");
            }

            Assert.That(target.Lines[^1], Is.EqualTo("handled 2"));
        }

        Quit(target);
    }

    /// <summary>Handlers look at the program counter and at the stack it goes with.</summary>
    [TestCase("Jump")]
    [TestCase("InProcessTrap")]
    public void HandlersSeeOriginalAddressesWithoutATracer(string mechanism)
    {
        using PrivateDirectory directory = new("gate");
        using TargetProcess target = TargetProcess.StartTarget("guarded");
        using (TargetProcess tracer = SeparateTracer.Start(directory, ["live", $"{target.ProcessId}", mechanism, "a.out:hot:entry", "a.out:deep:entry"]))
        {
            Assert.That(tracer.ReadLine(), Is.EqualTo(mechanism == "Jump" ? "armed 2 0 0" : "armed 0 2 0"), () => tracer.Errors);
            Assert.That(tracer.Signal(9), Is.True);
            tracer.WaitForExit();
        }

        long before = LaneMemory.SumOfCounts(target.ProcessId);
        target.SendLine($"go {Threads} {ManyCalls * (mechanism == "Jump" ? 50 : 2)} {Signals}");
        long count = target.ReadCount("hot");
        Assert.That(LaneMemory.SumOfCounts(target.ProcessId) - before, Is.EqualTo(count + target.GetCount("deep")));
        Assert.That(target.GetCount("seen"), Is.GreaterThan(100));
        Quit(target);
    }

    [TestCase("InProcessTrap", "a.out:work_*:entry", "a.out:fault_*:entry")]
    [TestCase("Auto", "a.out:work_*:entry", "a.out:fault_load:entry", "a.out:fault_store:entry", "a.out:fault_ud2:entry", "a.out:fault_div:entry")]
    public void FaultsAreSeenAtOriginalAddressesWithoutATracer(string mechanism, params string[] descriptions)
    {
        string[] arguments = ["4", "300", "20", "2000"];
        IReadOnlyList<string> alone = RunAlone("signals", null, arguments);
        using PrivateDirectory directory = new("gate");
        using TargetProcess target = TargetProcess.StartTarget("signals", null, arguments);
        using (TargetProcess tracer = SeparateTracer.Start(directory, ["live", $"{target.ProcessId}", mechanism, .. descriptions]))
        {
            Assert.That(tracer.ReadLine(), Does.StartWith("armed ").And.EndsWith(" 0"), () => tracer.Errors);
            Assert.That(tracer.Signal(9), Is.True);
            tracer.WaitForExit();
        }

        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        Assert.That(LaneMemory.SumOfCounts(target.ProcessId), Is.GreaterThan(1000));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(Comparable(target.Lines).Where(l => !l.StartsWith("count work_global", StringComparison.Ordinal)),
            Is.EqualTo(alone.Where(l => !l.StartsWith("count work_global", StringComparison.Ordinal))));
    }

    [TestCase("default", "raise", false)]
    [TestCase("default", "int3", false)]
    [TestCase("default", "int3", true)]
    [TestCase("ignore", "int3", false)]
    [TestCase("default", "queue", true)]
    public async Task WhatKillsTheTargetKillsItAsBefore(string action, string sent, bool isUntraced)
    {
        using PrivateDirectory directory = new("gate");
        using TargetProcess target = TargetProcess.StartTarget("guarded", null, null, new TargetStart { WorkingDirectory = directory.FullPath });
        target.SendLine($"action {action}");
        target.ReadLineStarting("was ");
        if (isUntraced)
        {
            using TargetProcess tracer = SeparateTracer.Start(directory, ["count", $"{target.ProcessId}", "InProcessTrap", "a.out:hot:entry"]);
            Assert.That(tracer.ReadLine(), Is.EqualTo("armed 0 1 0"), () => tracer.Errors);
            Assert.That(tracer.Signal(9), Is.True);
            tracer.WaitForExit();
        }
        else
        {
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            await CountAsync(process, "a.out:hot:entry");
        }

        target.SendLine("go 2 100 0");
        target.ReadCount("hot");
        target.SendLine(sent);
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 5)));
    }

    [TestCase("plain")]
    [TestCase("info")]
    [TestCase("onstack")]
    [TestCase("nodefer")]
    [TestCase("resethand")]
    [TestCase("ignore")]
    public async Task TheTargetsOwnActionIsTakenAsByTheKernel(string action)
    {
        using TargetProcess target = TargetProcess.StartTarget("guarded");
        target.SendLine($"action {action}");
        target.ReadLineStarting("was ");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum hot = await CountAsync(process, "a.out:hot:entry");
        foreach (string sent in action switch { "resethand" => ["raise"], "ignore" => ["raise", "queue"], _ => new[] { "raise", "queue", "int3" } })
        {
            target.SendLine("go 1 50 0");
            target.ReadCount("hot");
            target.SendLine(sent);
            Assert.That(target.ReadLineStarting("handled "), Is.EqualTo(action == "ignore" ? "handled 0" : "handled 1"), sent);
        }

        target.SendLine("fork");
        Assert.That(target.ReadLineStarting("child "), Is.EqualTo(action switch { "resethand" => "child 5", "ignore" => "child 0", _ => "child 100" }));
        await process.DisposeAsync();
        Assert.That(hot.Sum, Is.GreaterThan(0));
        AssertUntouched(target);
        target.SendLine("look");
        Assert.That(target.ReadLineStarting("is "), Is.EqualTo(action == "resethand" ? "is default" : $"is {action}"));
        Quit(target);
    }

    [Test]
    public async Task AnActionThatIsSetMeanwhileStaysWhenTheTracerGoes()
    {
        using TargetProcess target = TargetProcess.StartTarget("guarded");
        target.SendLine("action info");
        target.ReadLineStarting("was ");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum hot = await CountAsync(process, "a.out:hot:entry");
        target.SendLine("action onstack");
        target.ReadLineStarting("was ");
        Assert.That(await process.PrepareForLifeAsync(), Is.Null);
        target.SendLine("int3");
        Assert.That(target.ReadLineStarting("handled "), Is.EqualTo("handled 1"));
        target.SendLine("action nodefer");
        target.ReadLineStarting("was ");
        target.SendLine("go 1 50 0");
        Assert.That(target.ReadCount("hot"), Is.EqualTo(hot.Sum));
        await process.DisposeAsync();
        target.SendLine("look");
        Assert.That(target.ReadLineStarting("is "), Is.EqualTo("is nodefer"));
        Quit(target);
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
            ProbeSum hot = await CountAsync(process, round % 2 == 0 ? "a.out:hot:entry" : "a.out:hot:return");
            WaitUntil(() => hot.Count > 1000, "hits");
            await hot.DisposeAsync();
            long after = hot.Count;
            TextCheck.AssertClean(target.ProcessId);
            Assert.That(hot.Count, Is.EqualTo(after), "a hit after the disposal");
        }

        target.SendLine("stop");
        target.ReadCount("hot");
        await process.DisposeAsync();
        Quit(target);
    }

    private static async Task<ProbeSum> CountAsync(TracedProcess process, string description)
    {
        ProbeSum sum = await process.On(description).WithMechanism(ProbeMechanism.InProcessTrap).Count().EnableAsync();
        Assert.That((sum.Mechanisms.Jump, sum.Mechanisms.InProcessTrap, sum.Mechanisms.Breakpoint), Is.EqualTo((0, 1, 0)));
        return sum;
    }

    private static void AssertUntouched(TargetProcess target)
    {
        TextCheck.AssertClean(target.ProcessId);
        Assert.That(File.ReadAllText($"/proc/{target.ProcessId}/maps"), Does.Not.Contain("memfd:fasttrap"));
    }

    private static void Quit(TargetProcess target)
    {
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }
}
