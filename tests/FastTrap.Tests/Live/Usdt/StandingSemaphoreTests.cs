using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Semaphores where programs and libraries come and go, and where children inherit them.</summary>
[TestFixture]
public sealed class StandingSemaphoreTests : LiveTest
{
    private const string Guarded = "fasttrap_test*:::guarded";
    private const string InLibrary = "fasttrap_test*:::in-library";

    [Test]
    public async Task WithAnUnloadedLibraryNothingIsWritten()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdtloads", arguments: [TargetBuilder.BuildLibrary("usdt_plugin")]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Assert.That(target.SendAndReadCount("open", "semaphore"), Is.Zero);
        ProbeEnabling enabling = await process.EnableAsync(InLibrary, CountOnly);
        Assert.That(target.SendAndReadCount("work 10", "fired"), Is.EqualTo(10));
        Assert.That(target.ReadCount("semaphore"), Is.EqualTo(1));
        Assert.That(target.SendAndReadCount("reuse", "semaphore"), Is.EqualTo(-1));
        await enabling.DisposeAsync();
        await process.DisposeAsync();
        Assert.That(enabling.Failures.Select(f => f.Refusal), Is.EqualTo(new[] { ProbeRefusal.Unloaded }));
        Assert.That(target.SendAndReadCount("check", "changed"), Is.Zero);
        Assert.That(enabling.HitCount, Is.EqualTo(10));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task OfALibraryThatIsLoadedLaterItIsRaised()
    {
        StandingEnabling standing = await Tracer.EnableAsync(InLibrary, CountOnly);
        using TargetProcess target = TargetProcess.StartTarget("usdtloads", arguments: [TargetBuilder.BuildLibrary("usdt_plugin")]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        for (int round = 0; round < 5; round++)
        {
            Assert.That(target.SendAndReadCount("open", "semaphore"), Is.EqualTo(1), $"round {round}");
            Assert.That(target.SendAndReadCount("work 10", "fired"), Is.EqualTo(10));
            Assert.That(target.ReadCount("semaphore"), Is.EqualTo(1));
            Assert.That(target.SendAndReadCount("close", "semaphore"), Is.EqualTo(-1));
        }

        Assert.That(standing.HitCount, Is.EqualTo(50));
        Assert.That(target.SendAndReadCount("open", "semaphore"), Is.EqualTo(1));
        await standing.DisposeAsync();
        Assert.That(target.SendAndReadCount("work 10", "fired"), Is.Zero);
        Assert.That(target.ReadCount("semaphore"), Is.Zero);
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task FollowedChildrenHaveTheirOwnCountOfOne()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        await Tracer.AttachAsync(target.ProcessId, new AttachOptions { FollowChildren = true });
        StandingEnabling first = await Tracer.EnableAsync(Guarded, CountOnly);
        StandingEnabling second = await Tracer.EnableAsync(Guarded, CountOnly);
        Assert.That(target.SendAndReadCount("raisedforks 40", "wrong"), Is.Zero, "each child sees 1, and fires");
        Assert.That((first.HitCount, second.HitCount), Is.EqualTo((80L, 80L)), "the children's and the parent's");
        target.SendLine("inner");
        Assert.That(Count(target), Is.EqualTo(1));
        Assert.That(target.SendAndReadCount("guarded 10", "guarded"), Is.EqualTo(10));
        target.SendLine("inner");
        Assert.That(Count(target), Is.EqualTo(1), "a grandchild's");
        await first.DisposeAsync();
        Assert.That(Count(target), Is.EqualTo(1));
        await second.DisposeAsync();
        for (int generation = 2; generation >= 0; generation--)
        {
            Assert.That(Count(target), Is.Zero, $"generation {generation}");
            Assert.That(target.SendAndReadCount("guarded 10", "guarded"), Is.Zero);
            target.SendLine("quit");
            if (generation > 0)
            {
                Assert.That(target.ReadCount("inner"), Is.Zero);
            }
        }

        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That((first.HitCount, second.HitCount), Is.EqualTo((90L, 90L)));
    }

    [Test]
    public async Task ADetachLowersInEveryProcessOfATree()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        await Tracer.AttachAsync(target.ProcessId, new AttachOptions { FollowChildren = true });
        await Tracer.EnableAsync("fasttrap_test*:::*", CountOnly);
        target.SendLine("inner");
        Assert.That(Count(target), Is.EqualTo(1));
        Assert.That(target.Lines[^2], Is.EqualTo("count shared 1"));
        await Tracer.DisposeAsync();
        Assert.That(Count(target), Is.Zero);
        Assert.That(target.Lines[^2], Is.EqualTo("count shared 0"));
        target.SendLine("quit");
        Assert.That(target.ReadCount("inner"), Is.Zero);
        Assert.That(Count(target), Is.Zero);
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task AProgramThatIsExecutedHasItRaisedAgain()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        await Tracer.AttachAsync(target.ProcessId);
        StandingEnabling standing = await Tracer.EnableAsync(Guarded, CountOnly);
        for (int round = 0; round < 3; round++)
        {
            target.SendLine("exec");
            target.WaitReady();
            Assert.That(Count(target), Is.EqualTo(1));
            Assert.That(target.SendAndReadCount("guarded 10", "guarded"), Is.EqualTo(10));
        }

        await standing.DisposeAsync();
        Assert.That(Count(target), Is.Zero);
        Assert.That(standing.HitCount, Is.EqualTo(30));
    }

    private static long Count(TargetProcess target) => target.SendAndReadCount("semaphores", "semaphore");
}
