using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Threads that are hard to look at while sites come and go: those that have executed a trap, and those that make others.</summary>
[TestFixture]
public sealed class VisitTests : LiveTest
{
    private const int Rounds = 60;

    /// <summary>Behind a trapped return there is an island: who has executed that trap stands at the island's address, and is not in it.</summary>
    [Test]
    public async Task BehindATrapThereMayBeAnIsland()
    {
        using TargetProcess target = TargetProcess.StartTarget("visited", null, ["island", "3"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum near = await process.On("a.out:near:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
        ProbeSum lone = await process.On("a.out:lone:entry").WithMechanism(ProbeMechanism.InProcessTrap).Count().EnableAsync();
        for (int round = 0; round < Rounds; round++)
        {
            ProbeSum newcomer = await process.On("a.out:near:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
            await newcomer.DisposeAsync();
        }

        WaitUntil(() => lone.Count > 0 && near.Count > 0, "hits");
        await EndAsync(target, process);
    }

    /// <summary>The kernel forgets an interruption in the stop for a new process or thread: it is asked again, and nobody waits in vain.</summary>
    [TestCase("fork")]
    [TestCase("clone")]
    public async Task ThreadsThatMakeOthersAreSeen(string kind)
    {
        using TargetProcess target = TargetProcess.StartTarget("visited", null, [kind, "3"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        for (int round = 0; round < Rounds; round++)
        {
            ProbeSum work = await process.On("a.out:work:entry").Count().EnableAsync();
            Assert.That(work.Mechanisms.Jump, Is.EqualTo(1), string.Join("; ", work.Mechanisms.Reasons.Keys));
            await work.DisposeAsync();
        }

        await EndAsync(target, process);
    }

    /// <summary>Who waits for its vfork child makes no system call for us: the child may stand at a trap of ours.</summary>
    [Test]
    public async Task ThreadsThatWaitForTheirChildrenAreNotBorrowed()
    {
        using TargetProcess target = TargetProcess.StartTarget("visited", null, ["vfork", "2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling handler = await process.EnableAsync("a.out:work:entry", CountOnly);
        for (int round = 0; round < Rounds; round++)
        {
            ProbeSum other = await process.On("a.out:main:entry").Count().EnableAsync().WaitAsync(Patience);
            await other.DisposeAsync().AsTask().WaitAsync(Patience);
        }

        WaitUntil(() => handler.HitCount > 0, "hits");
        await EndAsync(target, process);
    }

    /// <summary>A vfork child that was made before the attach shares the memory, and runs into its traps.</summary>
    [Test]
    public async Task VforkChildrenOfBeforeTheAttachAreTraced()
    {
        using TargetProcess target = TargetProcess.StartTarget("visited", null, ["late", "2"]);
        for (int round = 0; round < Rounds / 4; round++)
        {
            await using TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            ProbeEnabling work = await process.EnableAsync("a.out:work:entry", CountOnly);
            WaitUntil(() => work.HitCount > 0, "hits");
        }

        target.SendLine("stop");
        target.ReadLineStarting("count work ");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    private static async Task EndAsync(TargetProcess target, TracedProcess process)
    {
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("stop");
        target.ReadLineStarting("count work ");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }
}
