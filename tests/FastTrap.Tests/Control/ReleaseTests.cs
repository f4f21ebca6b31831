using System.Globalization;
using FastTrap.Control;
using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Control;

/// <summary>What becomes of a process that is let go: alone, as one of several, stopped, killed with the tracer.</summary>
[TestFixture]
public sealed class ReleaseTests : LiveTest
{
    private const int SIGCONT = 18;
    private const int SIGSTOP = 19;

    /// <summary>The control thread goes on, so its end cannot release the sleeping threads: they are interrupted, and their calls notice nothing.</summary>
    [Test]
    public async Task OneOfSeveralIsDetachedWithoutDisturbingItsSleepers([Values] bool isProbed)
    {
        using TargetProcess shell = TargetProcess.Start("/bin/sh", ["-c", "read x; \"$0\"; echo code $?; read x; exit 4", TargetBuilder.Build("eintr")]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(shell.ProcessId);
        shell.SendLine("go");
        int child = int.Parse(shell.ReadLineStarting("ready ").AsSpan(6), CultureInfo.InvariantCulture);
        ProcessHandle handle = tree.Find(child);
        if (isProbed)
        {
            TracedProcess process = new(new Roster(), tree.Core, handle, killOnDispose: false);
            handle.Observer = tree;
            await process.EnableAsync("a.out:*:entry", CountOnly);
            await process.EnableAsync("libc.so.6:*wait*:*", CountOnly);
            await process.DisposeAsync();
        }
        else
        {
            await tree.Thread.ReleaseAsync(handle, ReleaseKind.Run);
        }

        Assert.That(handle.EndsWithThread, Is.False);
        Assert.That(Tracers(child), Is.All.EqualTo(0));
        Assert.That(Tracers(shell.ProcessId), Is.All.Not.EqualTo(0));
        Assert.That(await handle.Completion, Is.EqualTo(new ProcessExit(ProcessExitKind.Detached, 0, 0)));
        TextCheck.AssertClean(child);
        shell.SendLine("end");
        shell.ReadLineStarting("code ");
        Assert.That(shell.Lines.Where(l => l.StartsWith("eintr ", StringComparison.Ordinal)), Is.Not.Empty.And.All.EndsWith(" 0"), string.Join('\n', shell.Lines));
        Assert.That(shell.Lines[^1], Is.EqualTo("code 0"));
        Assert.That(tree.Root.IsOver, Is.False);
        shell.SendLine("end");
        Assert.That(shell.WaitForExit(), Is.EqualTo(new TargetExit(4, 0)));
        await tree.Root.Completion.WaitAsync(Patience);
        Assert.That(tree.Lives.Single(l => l.Process == handle).Life, Is.EqualTo(new[] { "forked", "executed", "ended Detached 0" }));
        Assert.That(tree.Lives.Single(l => l.Process == tree.Root).Life, Is.EqualTo(new[] { "ended Exited 4" }));
    }

    [Test]
    public async Task ParentIsDetachedWhileItsChildStays()
    {
        using TargetProcess shell = TargetProcess.Start("/bin/sh", ["-c", "read x; \"$0\"; echo code $?; /bin/true; exit 4", TargetBuilder.Build("eintr")]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(shell.ProcessId);
        shell.SendLine("go");
        int child = int.Parse(shell.ReadLineStarting("ready ").AsSpan(6), CultureInfo.InvariantCulture);
        await tree.Thread.ReleaseAsync(tree.Root, ReleaseKind.Run);
        Assert.That(Tracers(child), Is.All.Not.EqualTo(0));
        shell.SendLine("end");
        Assert.That(shell.WaitForExit(), Is.EqualTo(new TargetExit(4, 0)), string.Join('\n', shell.Lines));
        Assert.That(shell.Lines, Has.Member("code 0"));
        Assert.That(await tree.Find(child).Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)));
        Assert.That(tree.Children.Count(), Is.EqualTo(1), "what the released parent starts is not followed");
    }

    [Test]
    public async Task WholeTreeIsReleasedInTheMiddleOfItsWork([Range(0, 4)] int round)
    {
        using TargetProcess target = TargetProcess.StartTarget("forks", null, ["40"]);
        await using (ProcessTree tree = await ProcessTree.AttachAsync(target.ProcessId))
        {
            target.SendLine("go");
            WaitUntil(() => tree.Children.Count() > (round * 17) + 3, "children");
        }

        target.ReadLineStarting("count children");
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task WithTheOptionToDieAReleaseStillKillsNobody()
    {
        await using Tracer tracer = new(new TracerOptions { KillTargetsWithTracer = true });
        using TargetProcess target = TargetProcess.StartTarget("eintr");
        for (int round = 0; round < 3; round++)
        {
            TracedProcess process = await tracer.AttachAsync(target.ProcessId);
            await process.EnableAsync("a.out:*:entry", CountOnly);
            await process.DisposeAsync();
            Assert.That(Tracers(target.ProcessId), Is.All.EqualTo(0));
        }

        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines.Where(l => l.StartsWith("eintr ", StringComparison.Ordinal)), Is.Not.Empty.And.All.EndsWith(" 0"));
    }

    /// <summary>A thread that waits for its vfork child cannot stop: it is let go when it goes on, and nobody waits for that.</summary>
    [Test]
    public async Task ThreadThatWaitsForAVforkChildIsLetGoLater([Values] bool isLast)
    {
        using TargetProcess shell = TargetProcess.Start("/bin/sh", ["-c", "read x; \"$0\" 1 vfork; echo code $?; exit 4", TargetBuilder.Build("dies")]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(shell.ProcessId);
        shell.SendLine("go");
        int child = int.Parse(shell.ReadLineStarting("ready ").AsSpan(6), CultureInfo.InvariantCulture);
        ProcessHandle handle = tree.Find(child);
        if (isLast)
        {
            await tree.Thread.ReleaseAsync(tree.Root, ReleaseKind.Run);
        }

        TracedProcess process = new(new Roster(), tree.Core, handle, killOnDispose: false);
        handle.Observer = tree;
        await process.EnableAsync("a.out:*:entry", CountOnly);
        shell.SendLine("go");
        bool isWaiting = false;
        WaitUntil(
            () =>
            {
                isWaiting = tree.Thread.InvokeAsync(handle, () => handle.Tasks.Values.Any(t => t.IsVisitor && t.State == TaskState.Running)).Result;
                return isWaiting;
            },
            "the visitor");
        await process.DisposeAsync();
        Assert.That(await handle.Completion, Is.EqualTo(new ProcessExit(ProcessExitKind.Detached, 0, 0)));
        TextCheck.AssertClean(child);
        shell.SendLine("x");
        shell.ReadLineStarting("back");
        WaitUntil(() => Tracers(child).TrueForAll(t => t == 0), "the last thread to be let go");
        shell.SendLine("end");
        Assert.That(shell.WaitForExit(), Is.EqualTo(new TargetExit(4, 0)), string.Join('\n', shell.Lines));
        Assert.That(shell.Lines, Has.Member("code 0"));
    }

    [Test]
    public async Task LeftStoppedItGoesOnWithSigcont()
    {
        using TargetProcess target = TargetProcess.StartTarget("jobs");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:tick:*", CountOnly);
        WaitUntil(() => enabling.HitCount > 0, "ticks");
        await process.ReleaseAsync(ReleaseKind.LeaveStopped);
        WaitUntil(() => target.ReadState() == 'T', "the stop");
        Assert.That(Tracers(target.ProcessId), Is.All.EqualTo(0));
        TextCheck.AssertClean(target.ProcessId);
        target.Signal(SIGCONT);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.Member("continued 1"));
    }

    [Test]
    public async Task KilledItIsKilled()
    {
        using TargetProcess target = TargetProcess.StartTarget("jobs");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await process.ReleaseAsync(ReleaseKind.Kill);
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 9)));
        Assert.That(await process.Completion, Is.EqualTo(new ProcessExit(ProcessExitKind.Killed, 0, 9)));
        Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => process.ReleaseAsync((ReleaseKind)7).AsTask());
    }

    /// <summary>A program with an action for SIGTRAP, which one of its threads must be asked for: a stopped one is asked, and stands again.</summary>
    [TestCase("jobs", "a.out:tick:*")]
    [TestCase("stopped", "a.out:tick:*")]
    public async Task StoppedBeforeTheAttachItStaysStopped(string name, string description)
    {
        using TargetProcess target = name == "jobs" ? TargetProcess.StartTarget("jobs") : TargetProcess.StartTarget("jobs", null, ["handler"]);
        target.Signal(SIGSTOP);
        WaitUntil(() => target.ReadState() == 'T', "the stop");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync(description, CountOnly);
        Assert.That(enabling.Probes, Is.Not.Empty);
        Assert.That(target.ReadState(), Is.AnyOf('t', 'T'));
        Assert.That(enabling.HitCount, Is.Zero);
        await process.DisposeAsync();
        WaitUntil(() => target.ReadState() == 'T', "the stop without a tracer");
        TextCheck.AssertClean(target.ProcessId);

        process = await Tracer.AttachAsync(target.ProcessId);
        enabling = await process.EnableAsync(description, CountOnly);
        target.Signal(SIGCONT);
        WaitUntil(() => enabling.HitCount > 0, "ticks after SIGCONT");
        await process.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.Member("continued 1"));
    }

    private static List<int> Tracers(int processId) =>
    [
        .. Directory.GetDirectories($"/proc/{processId}/task")
            .Select(d => File.ReadLines(Path.Combine(d, "status")).First(l => l.StartsWith("TracerPid:", StringComparison.Ordinal)))
            .Select(l => int.Parse(l.AsSpan(10).Trim(), CultureInfo.InvariantCulture)),
    ];
}
