using FastTrap.Tests.Arm64Live.Guest;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Arm64Live;

/// <summary>Control of arm64 processes: attach, detach, create, fork, exec, exit, refusals.</summary>
[TestFixture(Plain)]
[TestFixture(Full)]
public sealed class Arm64ControlTests(string processor) : Arm64LiveTest(processor)
{
    [Test]
    public async Task RunningThreadsAreLeftCleanAgainAndAgain()
    {
        using GuestProcess target = Start("threads", "4");
        target.SendLine("run");
        target.ReadLineStarting("running");
        string before = Executable(target);
        for (int round = 0; round < 4; round++)
        {
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            ProbeEnabling enabling = await process.EnableAsync(round % 2 == 0 ? "a.out:hot:*" : "a.out:work:*", CountOnly);
            WaitUntil(() => enabling.HitCount > 20, "hits");
            await process.DisposeAsync();
            Assert.That(await process.Completion, Is.EqualTo(new ProcessExit(ProcessExitKind.Detached, 0, 0)));
            GuestText.AssertClean(Machine, target);
            Assert.That(Executable(target), Is.EqualTo(before), "executable memory was left behind");
            Assert.That(target.ReadProc("status"), Does.Contain("TracerPid:\t0"));
        }

        target.SendLine("stop");
        target.ReadCount("hot");
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task NewThreadsAreFollowed()
    {
        using GuestProcess target = Start("threads", "1");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling entry = await process.EnableAsync("a.out:hot:entry", CountOnly);
        ProbeEnabling exit = await process.EnableAsync("a.out:hot:return", CountOnly);
        target.SendLine("churn 30");
        Assert.That(target.ReadCount("hot"), Is.EqualTo(30));
        await process.DisposeAsync();
        Assert.That((entry.HitCount, exit.HitCount), Is.EqualTo((30L, 30L)));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [TestCase("a.out:other:*", "a.out:work:*")]
    [TestCase("libc.so.6:*fork*:entry", "libc.so.6:*exec*:entry")]
    public async Task ForkChildrenGetCleanText(string first, string second)
    {
        using GuestProcess target = Start("forks", "1");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await process.EnableAsync([new ProbeRequest(first, CountOnly), new ProbeRequest(second, CountOnly)]);
        ProbeEnabling other = await process.EnableAsync("a.out:other:entry", CountOnly);
        target.SendLine("go");
        target.ReadLineStarting("count children");
        await process.DisposeAsync();
        Assert.That(other.HitCount, Is.GreaterThanOrEqualTo(target.GetCount("other")));
        GuestText.AssertClean(Machine, target);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [TestCase("leader")]
    [TestCase("thread")]
    public async Task ExecutionsEndProbesAndTheNewProgramCanBeProbed(string who)
    {
        using GuestProcess target = Start("execs", "2");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling hot = await process.EnableAsync("a.out:hot:*", CountOnly);
        WaitUntil(() => hot.HitCount > 20, "hits");
        target.SendLine(who);
        Assert.That(target.ReadLineStarting("second "), Is.EqualTo($"second {target.ProcessId} 0"));
        WaitUntil(() => process.Executions == 1, "the execution to be counted");
        ProbeEnabling again = await process.EnableAsync("a.out:hot:entry", CountOnly);
        target.SendLine("go 6");
        Assert.That(target.ReadCount("hot"), Is.EqualTo(6));
        Assert.That(again.HitCount, Is.EqualTo(6));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(7, 0)), string.Join('\n', target.Lines));
        Assert.That(await process.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 7, 0)));
    }

    [Test]
    public async Task KilledTargetEndsInOrder()
    {
        using GuestProcess target = Start("threads", "3");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling hot = await process.EnableAsync("a.out:hot:entry", CountOnly);
        target.SendLine("run");
        WaitUntil(() => hot.HitCount > 10, "hits");
        target.Signal(9);
        Assert.That(await process.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Killed, 0, 9)));
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 9)));
    }

    [TestCase(CreateStop.Entry)]
    [TestCase(CreateStop.Exec)]
    public async Task CreatedProgramIsCountedFromItsStart(CreateStop stop)
    {
        string output = $"/tmp/out-{Guid.NewGuid():N}";
        TracedProcess process = await Tracer.CreateAsync("/t/calls", ["1", "4", "23"], new CreateOptions
        {
            StopAt = stop,
            StandardOutput = output,
            Environment = new Dictionary<string, string> { ["TARGET_NOWAIT"] = "1" },
        });
        Assert.That(process.WasCreated);
        ProbeEnabling main = await process.EnableAsync("a.out:main:entry", CountOnly);
        ProbeEnabling args = await process.EnableAsync("a.out:args6:return", CountOnly);
        await process.ResumeAsync();
        Assert.That(await process.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 23, 0)));
        Assert.That((main.HitCount, args.HitCount), Is.EqualTo((1L, 4L)));
        Assert.That(System.Text.Encoding.UTF8.GetString(Machine.Platform.ReadProcFile(output, out _) ?? []), Does.Contain("count args6 4\n"));
    }

    [TestCase("handler", "0")]
    [TestCase("ignore", "0")]
    [TestCase("ignore", "1")]
    [TestCase("default", "0")]
    [TestCase("default", "1")]
    public async Task MasksAndActionsOfTrapSignalsStay(string disposition, string pending)
    {
        using GuestProcess target = Start("blocked", "10", disposition, pending);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling hot = await process.EnableAsync("a.out:hot:*", CountOnly);
        ProbeEnabling slot = await process.EnableAsync("a.out:hot_slot:*", CountOnly);
        target.SendLine("go");
        Assert.That(target.ReadCount("hot"), Is.EqualTo(40));
        await process.DisposeAsync();
        Assert.That(hot.HitCount, Is.GreaterThanOrEqualTo(80));
        Assert.That(slot.HitCount, Is.GreaterThanOrEqualTo(80));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task SleepingCallsAreNotDisturbedByADetach()
    {
        using GuestProcess target = Start("arm64_sleeps");
        for (int round = 0; round < 2; round++)
        {
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            ProbeEnabling tick = await process.EnableAsync("a.out:tick:*", CountOnly);
            target.SendLine("tick");
            target.ReadLineStarting("ticked");
            Assert.That(tick.HitCount, Is.Positive);
            await process.DisposeAsync();
            GuestText.AssertClean(Machine, target);
        }

        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.Member("epoll 0 nanosleep 0 semop 0 read 0"));
    }

    [Test]
    public void WhatCannotBeTracedIsRefused()
    {
        AssertRefused(Machine.Platform.CurrentProcessId, FastTrapError.PermissionDenied);
        AssertRefused(2, FastTrapError.KernelThread);
        AssertRefused(4_000_000, FastTrapError.NoSuchProcess);
        using GuestProcess zombie = Start("states", "zombie");
        AssertRefused(ChildOf(zombie), FastTrapError.Zombie);
        using GuestProcess traced = Start("states", "traced");
        AssertRefused(ChildOf(traced), FastTrapError.AlreadyTraced);
    }

    private static int ChildOf(GuestProcess target) => int.Parse(target.ReadLineStarting("child ").AsSpan(6), System.Globalization.CultureInfo.InvariantCulture);

    private void AssertRefused(int processId, FastTrapError error) =>
        Assert.That(Assert.ThrowsAsync<FastTrapException>(() => Tracer.AttachAsync(processId))!.Error, Is.EqualTo(error));

    private static string Executable(GuestProcess target) =>
        string.Join('\n', target.ReadProc("maps").Split('\n').Where(l => l.Contains(" r-xp ", StringComparison.Ordinal)));
}
