using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>A probed process executes another program: the enablings end, the new program is clean, and can be probed.</summary>
[TestFixture]
public sealed class ExecTests : LiveTest
{
    [TestCase("leader", "a.out:hot:entry")]
    [TestCase("thread", "a.out:hot:entry")]
    [TestCase("leader", "a.out:*:*")]
    [TestCase("thread", "a.out:*:*")]
    [TestCase("leader", "libc.so.6:*:entry")]
    [TestCase("thread", "libc.so.6:*:entry")]
    public async Task ProbedProcessExecutes(string who, string description)
    {
        using TargetProcess target = TargetProcess.StartTarget("execs", null, ["8"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync(description, new ProbeOptions { BufferCapacity = 1024 });
        ProbeEnabling hot = await process.EnableAsync("a.out:hot:return", CountOnly);
        WaitUntil(() => hot.HitCount > 100, "hits");
        target.SendLine(who);
        Assert.That(target.ReadLineStarting("second "), Is.EqualTo($"second {target.ProcessId} 0"));

        // The stream ends, with everything that was counted in it.
        long read = 0;
        await foreach (ProbeHit hit in enabling.ReadAllAsync().WithCancellation(new CancellationTokenSource(Patience).Token))
        {
            Assert.That(hit.ProcessId, Is.EqualTo(target.ProcessId));
            read++;
        }

        Assert.That(read + enabling.LostHits, Is.EqualTo(enabling.HitCount));
        long hits = hot.HitCount;
        TextCheck.AssertClean(target.ProcessId);
        Assert.That(process.Completion.IsCompleted, Is.False);
        Assert.That(target.SendAndReadCount("go 50", "hot"), Is.EqualTo(50));
        Assert.That(hot.HitCount, Is.EqualTo(hits), "a probe of the old program fired in the new one");

        // The new program can be probed as well.
        ProbeEnabling again = await process.EnableAsync("a.out:hot:entry", CountOnly);
        Assert.That(target.SendAndReadCount("go 60", "hot"), Is.EqualTo(60));
        Assert.That(again.HitCount, Is.EqualTo(60));
        await again.DisposeAsync();
        await enabling.DisposeAsync();
        Assert.That(target.SendAndReadCount("go 7", "hot"), Is.EqualTo(7));
        Assert.That(again.HitCount, Is.EqualTo(60));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(7, 0)), string.Join('\n', target.Lines));
        Assert.That(await process.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 7, 0)));
    }

    [Test]
    public async Task EnablingWhileExecutingIsInTimeOrTooLate([Range(0, 9)] int round)
    {
        using TargetProcess target = TargetProcess.StartTarget("execs", null, ["8"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        target.SendLine(round % 2 == 0 ? "leader" : "thread");
        try
        {
            ProbeEnabling enabling = await process.EnableAsync("a.out:hot:entry", CountOnly);
            Assert.That(target.ReadLineStarting("second "), Does.StartWith($"second {target.ProcessId} "));
            long before = enabling.HitCount;
            Assert.That(target.SendAndReadCount("go 20", "hot"), Is.EqualTo(20));
            Assert.That(enabling.HitCount - before, Is.AnyOf(0L, 20L));
        }
        catch (FastTrapException exception)
        {
            Assert.That(exception.Error, Is.EqualTo(FastTrapError.ProcessEnded).Or.EqualTo(FastTrapError.NoMatch));
        }

        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Assert.That(target.SendAndReadCount("go 20", "hot"), Is.EqualTo(20));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(7, 0)), string.Join('\n', target.Lines));
    }

    [TestCase("libc.so.6:*:entry", "a.out:*:entry")]
    [TestCase("libc.so.6:*exec*:*", "a.out:use:*")]
    [TestCase("libc.so.6:*fork*:*", "a.out:child:*")]
    public async Task ChildrenOfEveryKindExecuteClean(string first, string second)
    {
        string[] arguments = ["6"];
        using TargetProcess target = TargetProcess.StartTarget("forks", null, arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync([new ProbeRequest(first, CountOnly), new ProbeRequest(second, CountOnly)]);
        target.SendLine("go");
        target.ReadLineStarting("count children");
        Assert.That(enablings[0].HitCount, Is.GreaterThan(0));
        foreach (ProbeEnabling enabling in enablings)
        {
            await enabling.DisposeAsync();
        }

        // The target itself looks at its text now, and looked at its children's all the time.
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
        Assert.That(await process.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)));
    }
}
