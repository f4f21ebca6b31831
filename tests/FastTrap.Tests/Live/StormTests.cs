using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Several users of one process at once.</summary>
[TestFixture(ProbeMechanism.Breakpoint)]
[TestFixture(ProbeMechanism.Jump)]
[TestFixture(ProbeMechanism.InProcessTrap)]
public sealed class StormTests(ProbeMechanism mechanism) : MechanismTest(mechanism)
{
    private const int Threads = 32;

    /// <param name="most">Rounds of each user.</param>
    /// <param name="seconds">In which it begins no more of them.</param>
    [TestCase(30, 4)]
    [TestCase(600, 120, Explicit = true, Reason = "minutes")]
    public async Task EightUsersEnableAndDisableWhileThirtyTwoThreadsRun(int most, int seconds)
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, [$"{Threads}"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        target.SendLine("run");
        target.ReadLineStarting("running");
        string[] descriptions =
        [
            "a.out:hot:entry", "a.out:hot:return", "a.out:hot:*", "a.out:work:*", "a.out:*:entry", "libc.so.6:pthread*:entry", "libc.so.6:*write*:*", "a.out:work:entry",
        ];
        long end = Environment.TickCount64 + (seconds * 1000L);
        long[] rounds = await Task.WhenAll(descriptions.Select(text => Task.Run(() => StormAsync(process, text, most, end))));
        Assert.That(rounds, Is.All.GreaterThan(0));
        target.SendLine("phase");
        target.ReadLineStarting("phase hot ");
        target.SendLine("stop");
        target.ReadCount("hot");
        TextCheck.AssertClean(target.ProcessId);

        // Afterwards everything is as on the first day.
        Counting entry = await CountAsync(process, "a.out:hot:entry");
        Counting exit = await CountAsync(process, "a.out:hot:return");
        Assert.That(target.SendAndReadCount("go 20", "hot"), Is.EqualTo(20 * Threads));
        Assert.That((entry.HitCount, exit.HitCount), Is.EqualTo((20L * Threads, 20L * Threads)));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    [Test]
    public async Task NoThreadStarvesWhileOthersHitWithoutEnd()
    {
        if (IsFast)
        {
            Assert.Ignore("Nobody waits for a turn where no thread stops.");
        }

        const int Hits = 30_000;
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["12"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Dictionary<int, int> byThread = [];
        ProbeEnabling enabling = await process.EnableAsync("a.out:hot:entry", new ProbeOptions
        {
            OnHit = (in ProbeContext context) => byThread[context.ThreadId] = byThread.GetValueOrDefault(context.ThreadId) + 1,
        });
        target.SendLine("run");
        target.ReadLineStarting("running");
        WaitUntil(() => enabling.HitCount > Hits, "hits");
        await enabling.DisposeAsync();
        TestContext.Out.WriteLine(string.Join(" ", byThread.Values.Order()));

        // The kernel reports the thread which was attached last before all others: without care the first ones would never get a turn.
        Assert.That(byThread, Has.Count.EqualTo(12));
        Assert.That(byThread.Values.Min(), Is.GreaterThan(Hits / 12 / 50));
        target.SendLine("stop");
        target.ReadCount("hot");
        await process.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task DisposingInTheMiddleOfEnablingLeavesNothing()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["8"]);
        target.SendLine("run");
        target.ReadLineStarting("running");
        for (int round = 0; round < 10; round++)
        {
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            Task[] users = [.. new[] { "a.out:hot:entry", "libc.so.6:*:entry", "a.out:*:*" }.Select(text => Task.Run(() => EnableOrBeTooLateAsync(process, text)))];
            await process.DisposeAsync();
            await Task.WhenAll(users);
            TextCheck.AssertClean(target.ProcessId);
        }

        target.SendLine("stop");
        target.ReadCount("hot");
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    private async Task<long> StormAsync(TracedProcess process, string text, int most, long end)
    {
        long round = 0;
        for (; round < most && Environment.TickCount64 < end; round++)
        {
            Counting enabling = await CountAsync(process, text);
            Assert.That(enabling.Enabling.Probes, Is.Not.Empty, text);
            await enabling.DisposeAsync();
            long after = enabling.HitCount;
            await process.ListAsync("a.out:hot:*");
            Assert.That(enabling.HitCount, Is.EqualTo(after), "a hit after the disposal");
        }

        return round;
    }

    private async Task EnableOrBeTooLateAsync(TracedProcess process, string text)
    {
        try
        {
            await CountAsync(process, text);
        }
        catch (FastTrapException exception)
        {
            Assert.That(exception.Error, Is.EqualTo(FastTrapError.ProcessEnded).Or.EqualTo(FastTrapError.Detached));
        }
        catch (ObjectDisposedException exception)
        {
            Assert.That(exception.ObjectName, Does.Contain(nameof(TracedProcess)));
        }
    }
}
