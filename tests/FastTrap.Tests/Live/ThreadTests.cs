using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Many threads, while probes come and go.</summary>
[TestFixture]
public sealed class ThreadTests : LiveTest
{
    [Test]
    public async Task SixtyFourThreadsWhileRoundsOfEnablingPass()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["64"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        for (int round = 0; round < 200; round++)
        {
            ProbeEnabling enabling = await process.EnableAsync("a.out:hot:entry", CountOnly);
            target.SendLine("go 3");
            long count = target.ReadCount("hot");
            await enabling.DisposeAsync();
            Assert.That(enabling.HitCount, Is.EqualTo(count), $"round {round}");
        }

        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    /// <summary>Many threads that stand in hits when their probes go, or many rounds.</summary>
    [TestCase(64, 20)]
    [TestCase(8, 180)]
    public async Task RunningThreadsNeverReachADisposedEnabling(int threads, int rounds)
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, [$"{threads}"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        target.SendLine("run");
        target.ReadLineStarting("running");
        for (int round = 0; round < rounds; round++)
        {
            int active = 1;
            int late = 0;
            ProbeEnabling enabling = await process.EnableAsync(round % 2 == 0 ? "a.out:hot:entry" : "a.out:hot:*", new ProbeOptions
            {
                OnHit = (in ProbeContext c) =>
                {
                    if (Volatile.Read(ref active) == 0)
                    {
                        Interlocked.Increment(ref late);
                    }
                },
            });
            WaitUntil(() => enabling.HitCount > 0, "a first hit");
            await enabling.DisposeAsync();
            Volatile.Write(ref active, 0);
            long after = enabling.HitCount;
            target.SendLine("phase");
            target.ReadLineStarting("phase hot ");
            Assert.That(late, Is.Zero);
            Assert.That(enabling.HitCount, Is.EqualTo(after));
        }

        target.SendLine("stop");
        target.ReadCount("hot");
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task NewAndExitingThreadsAreCounted()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["4"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:hot:entry", CountOnly);
        ProbeEnabling exit = await process.EnableAsync("a.out:hot:return", CountOnly);
        target.SendLine("churn 500");
        long count = target.ReadCount("hot");
        await process.DisposeAsync();
        Assert.That(enabling.HitCount, Is.EqualTo(count));
        Assert.That(exit.HitCount, Is.EqualTo(count));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task DetachAndAttachAgainWhileRunning()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["16"]);
        target.SendLine("run");
        target.ReadLineStarting("running");
        for (int round = 0; round < 20; round++)
        {
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            ProbeEnabling enabling = await process.EnableAsync("a.out:hot:*", CountOnly);
            WaitUntil(() => enabling.HitCount > 100, "hits");
            await process.DisposeAsync();
            TextCheck.AssertClean(target.ProcessId);
            Assert.That(await process.Completion, Is.EqualTo(new ProcessExit(ProcessExitKind.Detached, 0, 0)));
        }

        target.SendLine("stop");
        target.ReadCount("hot");
        string maps = File.ReadAllText($"/proc/{target.ProcessId}/maps");
        using TargetProcess fresh = TargetProcess.StartTarget("threads", null, ["16"]);
        Assert.That(
            maps.Split('\n').Count(l => l.Contains("r-xp") && !l.Contains('/')),
            Is.EqualTo(File.ReadAllText($"/proc/{fresh.ProcessId}/maps").Split('\n').Count(l => l.Contains("r-xp") && !l.Contains('/'))),
            "executable memory was left in the target");
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task KilledTargetEndsEverythingInOrder()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["16"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:hot:entry");
        target.SendLine("run");
        target.ReadLineStarting("running");
        WaitUntil(() => enabling.HitCount > 10, "hits");
        target.Signal(9);
        ProcessExit exit = await process.Completion.WaitAsync(Patience);
        Assert.That(exit, Is.EqualTo(new ProcessExit(ProcessExitKind.Killed, 0, 9)));
        long read = 0;
        await foreach (ProbeHit hit in enabling.ReadAllAsync())
        {
            read++;
        }

        Assert.That(read + enabling.LostHits, Is.EqualTo(enabling.HitCount));
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => process.EnableAsync("a.out:hot:entry"));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.ProcessEnded));
        await process.DisposeAsync();
    }

    [Test]
    public async Task JobControlStopsAreRespected()
    {
        using TargetProcess target = TargetProcess.StartTarget("jobs");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:tick:entry", CountOnly);
        WaitUntil(() => enabling.HitCount > 0, "ticks");
        target.Signal(19);
        long before = -1;
        WaitUntil(
            () =>
            {
                long now = enabling.HitCount;
                bool still = now == before && target.ReadState() is 't' or 'T';
                before = now;
                return still;
            },
            "the target to stop");
        ProbeEnabling second = await process.EnableAsync("a.out:tick:return", CountOnly);
        Assert.That(second.HitCount, Is.Zero);
        target.Signal(18);
        WaitUntil(() => second.HitCount > 0, "ticks after SIGCONT");
        await process.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.Member("continued 1"));
    }

    [Test]
    public async Task StoppedTargetStaysStoppedAfterDetach()
    {
        using TargetProcess target = TargetProcess.StartTarget("jobs");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:tick:entry", CountOnly);
        WaitUntil(() => enabling.HitCount > 0, "ticks");
        target.Signal(19);
        WaitUntil(() => target.ReadState() is 't' or 'T', "the stop");
        await process.DisposeAsync();
        WaitUntil(() => target.ReadState() == 'T', "the job-control stop without a tracer");
        TextCheck.AssertClean(target.ProcessId);
        target.Signal(18);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }
}
