using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Other tracers on the same process: Linux allows one, so whoever comes second is refused, and nobody suffers from it.</summary>
[TestFixture]
public sealed class DebuggerTests : LiveTest
{
    private static readonly string[] s_gdb = ["-q", "-nx", "-batch-silent"];

    [TestCase("gdb")]
    [TestCase("strace")]
    public async Task WhoeverIsThereFirstIsNamed(string program)
    {
        Require(program);
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["4"]);
        using TargetProcess other = program == "gdb"
            ? TargetProcess.Start("/bin/sh", ["-c", $"exec gdb {string.Join(' ', s_gdb)} -p {target.ProcessId} -ex 'shell echo attached' -ex 'shell read line' -ex detach"])
            : TargetProcess.Start("/bin/sh", ["-c", $"exec strace -f -e trace=none -o /dev/null -p {target.ProcessId}"]);
        WaitUntil(() => File.ReadAllLines($"/proc/{target.ProcessId}/status").All(l => l != "TracerPid:\t0"), "the other tracer");
        FastTrapException exception = Assert.ThrowsAsync<FastTrapException>(() => Tracer.AttachAsync(target.ProcessId))!;
        Assert.That(exception.Error, Is.EqualTo(FastTrapError.AlreadyTraced));
        Assert.That(exception.Message, Does.Contain(program));

        // It goes, and the way is free.
        if (program == "gdb")
        {
            other.SendLine("go on");
        }
        else
        {
            other.Signal(2);
        }

        other.WaitForExit();
        WaitUntil(() => File.ReadAllLines($"/proc/{target.ProcessId}/status").Contains("TracerPid:\t0"), "the other tracer's end");
        await ProbeAsync(target);
        End(target);
    }

    [TestCase("gdb")]
    [TestCase("strace")]
    public async Task WhoeverComesSecondIsRefusedAndDisturbsNobody(string program)
    {
        Require(program);
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["4"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:hot:entry", CountOnly);
        CommandResult result = program == "gdb"
            ? Command.Run(Command.Find("gdb")!, [.. s_gdb, "-p", $"{target.ProcessId}", "-ex", "detach"], Patience)
            : Command.Run(Command.Find("strace")!, ["-f", "-p", $"{target.ProcessId}"], Patience);
        Assert.That(result.Error + result.Output, Does.Contain("not permitted"));
        Assert.That(target.SendAndReadCount("go 50", "hot"), Is.EqualTo(200));
        Assert.That(enabling.HitCount, Is.EqualTo(200));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);

        // After the detach the debugger is welcome.
        if (program == "gdb")
        {
            result = Command.Run(Command.Find("gdb")!, ["-q", "-nx", "-batch", "-p", $"{target.ProcessId}", "-ex", "info threads", "-ex", "detach"], Patience);
            Assert.That(result.Output, Does.Contain("hot").Or.Contain("Thread"));
        }

        Assert.That(target.SendAndReadCount("go 5", "hot"), Is.EqualTo(20));
        End(target);
    }

    /// <summary>A process that was let go of is free for others, who disturb no count, and can be had again.</summary>
    [TestCase("gdb")]
    [TestCase("strace")]
    public async Task WhoeverComesToAProcessThatWasLetGoIsWelcome(string program)
    {
        Require(program);
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        target.SendLine("count");
        long before = target.ReadCount("calls");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum calls = await process.On("a.out:plain:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
        await process.LetGoAsync();
        target.SendLine("go");
        KillTests.AssertGoesOn(target);
        if (program == "gdb")
        {
            // It stops the threads, wherever they are, sets a trap of its own, waits for that, and looks at the stacks.
            CommandResult result = Command.Run(
                Command.Find("gdb")!,
                ["-q", "-nx", "-batch", "-p", $"{target.ProcessId}", "-ex", "break ticked", "-ex", "continue", "-ex", "thread apply all bt", "-ex", "delete", "-ex", "detach"], Patience);
            Assert.That(result.Output, Does.Contain("hit Breakpoint 1").And.Contain("ticked (signal=14)").And.Contain("sleep_all"), result.Error);
        }
        else
        {
            using PrivateDirectory directory = new("strace");
            using TargetProcess strace = TargetProcess.Start(Command.Find("strace")!, ["-f", "-o", directory["calls"], "-p", $"{target.ProcessId}"]);
            WaitUntil(() => Directory.GetDirectories($"/proc/{target.ProcessId}/task").All(t => !File.ReadAllLines($"{t}/status").Contains("TracerPid:\t0")), "all threads traced");
            for (int round = 0; round < 5; round++)
            {
                KillTests.AssertGoesOn(target);
            }

            strace.Signal(2);
            strace.WaitForExit();
            Assert.That(File.ReadAllText(directory["calls"]), Does.Contain("epoll_wait").And.Contain("SIGALRM"));
        }

        Assert.That(File.ReadAllLines($"/proc/{target.ProcessId}/status"), Has.Member("TracerPid:\t0"));
        KillTests.AssertGoesOn(target);
        target.SendLine("count");
        long expected = target.ReadCount("calls") - before;
        Assert.That((calls.Count, expected), Is.EqualTo((expected, expected)), string.Join('\n', target.Lines));
        Assert.That(expected, Is.GreaterThan(1000));
        target.SendLine("go");

        TracedProcess again = await Tracer.AttachAsync(target.ProcessId);
        Assert.That((again.Leftovers?.ProbesRemoved, again.Leftovers?.MappingsLeft), Is.EqualTo((1, 0)));
        KillTests.AssertClean(target);
        ProbeSum anew = await again.On("a.out:plain:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
        KillTests.AssertGoesOn(target);
        Assert.That(anew.Count, Is.Positive);
        await again.DisposeAsync();
        KillTests.AssertClean(target);
        await process.DisposeAsync();
        End(target);
    }

    private async Task ProbeAsync(TargetProcess target)
    {
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:hot:entry", CountOnly);
        Assert.That(target.SendAndReadCount("go 50", "hot"), Is.EqualTo(200));
        Assert.That(enabling.HitCount, Is.EqualTo(200));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
    }

    private static void End(TargetProcess target)
    {
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    private static void Require(string program)
    {
        if (Command.Find(program) is null)
        {
            Assert.Ignore($"{program} is not installed.");
        }
    }
}
