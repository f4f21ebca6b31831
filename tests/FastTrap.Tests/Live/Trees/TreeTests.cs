using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live.Trees;

/// <summary>One description on several processes: a set of them, a tree that is there, a tree from its start.</summary>
[TestFixture]
public sealed class TreeTests : LiveTest
{
    [Test]
    public async Task SetOfProcessesHasOneEnabling()
    {
        using TargetProcess first = TargetProcess.StartTarget("execs", null, ["1"]);
        using TargetProcess second = TargetProcess.StartTarget("execs", null, ["2"]);
        using TargetProcess third = TargetProcess.StartTarget("execs", null, ["1"]);
        foreach (TargetProcess target in new[] { first, second, third })
        {
            await Tracer.AttachAsync(target.ProcessId);
        }

        StandingEnabling standing = await Tracer.EnableAsync(
            "a.out:hot:entry", new ProbeOptions { BufferCapacity = 1 << 20 }, where: p => p.ProcessId != third.ProcessId);
        Assert.That(standing.Members.Select(m => m.Process.ProcessId), Is.EquivalentTo(new[] { first.ProcessId, second.ProcessId }));
        HashSet<int> seen = [];
        await foreach (ProbeHit hit in standing.ReadAllAsync().WithCancellation(new CancellationTokenSource(Patience).Token))
        {
            seen.Add(hit.ProcessId);
            if (seen.Count == 2)
            {
                break;
            }
        }

        Assert.That(seen, Is.EquivalentTo(new[] { first.ProcessId, second.ProcessId }));

        // Each executes its second stage, where it counts for itself; what was counted before stays.
        foreach (TargetProcess target in new[] { first, second, third })
        {
            target.SendLine("leader");

            // Its text differs from the files by the run-time linker's trap, and by the probe's, which stands again before it runs.
            Assert.That(target.ReadLineStarting("second "), Is.EqualTo($"second {target.ProcessId} {(target == third ? 1 : 2)}"));
        }

        WaitUntil(() => Tracer.Processes.All(p => p.Executions == 1), "executions");
        long before = standing.HitCount;
        first.SendAndReadCount("go 50", "hot");
        second.SendAndReadCount("go 70", "hot");
        third.SendAndReadCount("go 90", "hot");
        Assert.That(standing.HitCount - before, Is.EqualTo(120));
        await standing.DisposeAsync();
        first.SendAndReadCount("go 5", "hot");
        Assert.That(standing.HitCount - before, Is.EqualTo(120), "a hit after the disposal");
        await Tracer.DisposeAsync();
        foreach (TargetProcess target in new[] { first, second, third })
        {
            TextCheck.AssertClean(target.ProcessId);
            target.SendLine("end");
            Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(7, 0)), string.Join('\n', target.Lines));
        }
    }

    [Test]
    public async Task DescriptionMayStandBeforeTheProcessAndItsLibraryExist()
    {
        StandingEnabling program = await Tracer.EnableAsync("a.out:hot:entry", CountOnly);
        StandingEnabling library = await Tracer.EnableAsync("libstorm_plugin.so:plugin_hot:*", CountOnly);
        StandingEnabling nothing = await Tracer.EnableAsync("no_such_module:nothing:entry", CountOnly);
        Assert.That(Tracer.StandingEnablings, Has.Count.EqualTo(3));
        Assert.That(program.Members, Is.Empty);
        (long hot, long plugin) = await StormTree.RunAsync(Tracer);
        Assert.That(program.HitCount, Is.EqualTo(hot));
        IReadOnlyDictionary<string, long> counts = library.GetHitCounts();
        Assert.That(counts["pid:libstorm_plugin.so:plugin_hot:0"], Is.EqualTo(plugin));
        Assert.That(counts["pid:libstorm_plugin.so:plugin_hot:entry"], Is.EqualTo(plugin));
        Assert.That(counts["pid:libstorm_plugin.so:plugin_hot:return"], Is.EqualTo(plugin));
        Assert.That(nothing.HitCount, Is.Zero);
    }

    [Test]
    public async Task TreeThatRunsIsAttachedToAsAWhole()
    {
        using PrivateDirectory directory = new("tree");

        // A shell with two children, one of them with a child of its own; each waits for a line that never comes.
        using TargetProcess shell = TargetProcess.Start(
            "/bin/sh", ["-c", "sleep 1000 & sh -c 'sleep 1000 & echo inner; wait' & wait"]);
        shell.ReadLineStarting("inner");
        try
        {
            TracedProcess root = await Tracer.AttachAsync(shell.ProcessId, new AttachOptions { IncludeDescendants = true, FollowChildren = true });
            WaitUntil(() => Tracer.Processes.Count(p => p.ExecutablePath.Contains("sleep", StringComparison.Ordinal)) == 2, "sleeps");
            Assert.That(Tracer.Processes, Has.Count.EqualTo(4));
            Assert.That(Tracer.Processes, Has.Member(root));
            StandingEnabling standing = await Tracer.EnableAsync("libc.so.6:nanosleep:entry", CountOnly);
            Assert.That(standing.Members, Has.Count.EqualTo(4));
        }
        finally
        {
            int[] ids = [.. Tracer.Processes.Select(p => p.ProcessId).Where(id => id != shell.ProcessId)];
            await Tracer.DisposeAsync();
            Command.Run("/bin/sh", ["-c", $"kill {string.Join(' ', ids)}"], Patience);
        }

        shell.WaitForExit();
    }

    [Test]
    public async Task HandlerCannotDisposeAStandingEnabling()
    {
        using TargetProcess target = TargetProcess.StartTarget("execs", null, ["1"]);
        await Tracer.AttachAsync(target.ProcessId);
        StandingEnabling? standing = null;
        standing = await Tracer.EnableAsync("a.out:hot:entry", new ProbeOptions
        {
            OnHit = (in ProbeContext _) => Volatile.Read(ref standing)?.DisposeAsync().AsTask().Wait(),
        });
        WaitUntil(() => standing.HandlerErrors > 0, "a handler's error");
        Assert.That(standing.LastHandlerException, Is.InstanceOf<InvalidOperationException>());
        await standing.DisposeAsync();
        await Tracer.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
    }

    [Test]
    public async Task DisposedTracerRefuses()
    {
        await Tracer.DisposeAsync();
        Assert.That(async () => await Tracer.EnableAsync("a:b:entry"), Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => Tracer.Subscribe(), Throws.InstanceOf<ObjectDisposedException>());
    }
}
