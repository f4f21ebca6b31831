using System.Collections.Concurrent;
using System.Globalization;
using FastTrap.Control;
using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Control;

/// <summary>Children of every kind are followed from their first instruction, told of once, in order, and end as they would alone.</summary>
[TestFixture]
public sealed class FollowTests : LiveTest
{
    private const int Births = 5;

    [Test]
    public async Task EveryChildIsToldOfOnceAndInOrder()
    {
        const int Rounds = 12;
        using TargetProcess target = TargetProcess.StartTarget("forks", null, [$"{Rounds}"]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(target.ProcessId);
        target.SendLine("go");
        target.ReadLineStarting("count children");
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        await tree.Root.Completion.WaitAsync(Patience);

        // Fork, child and grandchild; and by vfork and by posix_spawn two that execute. A child which shares the memory is a visitor.
        string[] lives = [.. tree.Children.Select(child => string.Join(", ", child.Life))];
        Assert.That(lives, Has.Length.EqualTo(Rounds * Births));
        for (int round = 0; round < Rounds; round++)
        {
            string end = $"ended Exited {10 + round}";
            Assert.That(lives.Count(life => life == $"forked, {end}"), Is.EqualTo(3), string.Join('\n', lives));
            Assert.That(lives.Count(life => life == $"forked, executed, {end}"), Is.EqualTo(2), string.Join('\n', lives));
        }

        Assert.That(tree.Lives.Single(life => life.Process == tree.Root).Life, Is.EqualTo(new[] { "ended Exited 0" }));
        Assert.That(tree.Children.Count(child => child.Process.Parent != tree.Root), Is.EqualTo(Rounds), "grandchildren");
    }

    [Test]
    public async Task ProbesOfTheWholeTreeCountWhatItDoes()
    {
        const int Rounds = 6;
        TargetStart start = new() { Environment = new Dictionary<string, string> { ["TARGET_PROBED"] = "1" } };
        using TargetProcess target = TargetProcess.StartTarget("forks", null, [$"{Rounds}"], start);
        await using ProcessTree tree = await ProcessTree.AttachAsync(target.ProcessId);
        ConcurrentBag<TracedProcess> processes = [];
        ConcurrentBag<ProbeEnabling> enablings = [];
        TracedProcess Probe(ProcessHandle handle)
        {
            TracedProcess process = new(new Roster(), tree.Core, handle, killOnDispose: false);
            handle.Observer = tree;
            processes.Add(process);
            return process;
        }

        // The target counts calls of its own; each child makes 10 before it ends.
        tree.Prepare = async child => enablings.Add(await Probe(child).EnableAsync("a.out:other:entry", CountOnly));
        ProbeEnabling own = await Probe(tree.Root).EnableAsync("a.out:other:entry", CountOnly);
        target.SendLine("go");
        long count = target.ReadCount("other");
        target.ReadLineStarting("count children");
        Assert.That(count, Is.EqualTo(10 * Rounds));
        Assert.That(own.HitCount, Is.EqualTo(count + (10 * Rounds)), "its own calls and those of the child that shares its memory");
        await own.DisposeAsync();
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
        Assert.That(enablings, Has.Count.EqualTo(Rounds * Births));
        Assert.That(enablings.Select(e => e.HitCount), Is.All.EqualTo(10));
        foreach (TracedProcess process in processes)
        {
            await process.DisposeAsync();
        }
    }

    /// <summary>A shell that starts programs by the hundred: what the script counts is what was seen.</summary>
    [TestCase(400)]
    [TestCase(1000, Explicit = true)]
    public async Task ShellScriptOfShortProcesses(int programs)
    {
        int files = Directory.GetFiles("/proc/self/fd").Length;
        int threads = Directory.GetDirectories("/proc/self/task").Length;
        using PrivateDirectory directory = new("script");
        string script = $"n=0; while [ $n -lt {programs / 4} ]; do /bin/true; /bin/false || (exit 3) || /bin/sh -c 'exit 5'; n=$((n+1)); done; echo done $n $?; exit 9";
        await using (ProcessTree tree = await ProcessTree.CreateAsync("/bin/sh", ["-c", script], new CreateOptions { StandardOutput = directory["output"] }))
        {
            await tree.ResumeAsync();
            ProcessExit exit = await tree.Root.Completion.WaitAsync(Patience);
            Assert.That(exit, Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 9, 0)));
            Assert.That(await File.ReadAllTextAsync(directory["output"]), Is.EqualTo($"done {programs / 4} 0\n").Or.EqualTo($"done {programs / 4} 1\n"));
            string[] lives = [.. tree.Children.Select(child => string.Join(", ", child.Life))];
            Assert.Multiple(() =>
            {
                Assert.That(lives.Count(life => life == "forked, executed, ended Exited 0"), Is.EqualTo(programs / 4), "true");
                Assert.That(lives.Count(life => life == "forked, executed, ended Exited 1"), Is.EqualTo(programs / 4), "false");
                Assert.That(lives.Count(life => life == "forked, ended Exited 3"), Is.EqualTo(programs / 4), "subshells");
                Assert.That(lives.Count(life => life == "forked, executed, ended Exited 5"), Is.EqualTo(programs / 4), "shells");
                Assert.That(lives, Has.Length.EqualTo(programs));
            });
        }

        // The pool may have got a few threads; one for each process it has not.
        Assert.That(Directory.GetDirectories("/proc/self/task").Length - threads, Is.LessThan(20));
        Assert.That(Directory.GetFiles("/proc/self/fd").Length - files, Is.LessThan(10));
    }

    [Test]
    public async Task ChildThatIsKilledWhereItStandsEndsOnce()
    {
        const int Rounds = 5;
        using TargetProcess target = TargetProcess.StartTarget("dies", null, [$"{Rounds}"]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(target.ProcessId);
        tree.Prepare = child => tree.Thread.InvokeAsync(child, () => child.Platform.Kill(child.ProcessId, 9));
        target.SendLine("go");
        target.ReadLineStarting("killed ");
        Assert.That(target.Lines[^1], Is.EqualTo($"killed {Rounds} of {Rounds}"));
        Assert.That(tree.Children.Select(child => string.Join(", ", child.Life)), Has.Exactly(Rounds).EqualTo("forked, ended Killed 137"));
        tree.Prepare = null;
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    /// <summary>A parent is killed in the middle of making children: whoever was made is told of, or gone, and nobody is left standing.</summary>
    [Test]
    public async Task ParentIsKilledWhileItForks([Range(0, 4)] int round)
    {
        using TargetProcess target = TargetProcess.StartTarget("dies", null, ["20", "storm"]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(target.ProcessId);
        target.SendLine("go");
        WaitUntil(() => tree.Children.Count() > 10 * (round + 1), "children");
        target.Signal(9);
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 9)));
        await tree.Root.Completion.WaitAsync(Patience);
        WaitUntil(() => tree.Children.All(child => child.Process.IsOver), "the ends of all children");
        Assert.That(tree.Children.Select(child => child.Life), Is.All.Length.EqualTo(2));
        Assert.That(tree.Children.Select(child => child.Life[0]), Is.All.EqualTo("forked"));
        Assert.That(tree.Children.Select(child => child.Life[1]), Is.All.EqualTo("ended Exited 7"));
    }

    [Test]
    public async Task ChildrenAreLeftAloneUnlessTheyAreFollowed()
    {
        using TargetProcess target = TargetProcess.StartTarget("forks", null, ["4"]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(target.ProcessId, followsChildren: false);
        target.SendLine("go");
        target.ReadLineStarting("count children");
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        await tree.Root.Completion.WaitAsync(Patience);
        Assert.That(tree.Children, Is.Empty);
    }

    [Test]
    public async Task HoldsOfSeveralAddUp()
    {
        using TargetProcess target = TargetProcess.StartTarget("dies", null, ["1"]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(target.ProcessId);
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource<ProcessHandle> stands = new(TaskCreationOptions.RunContinuationsAsynchronously);
        tree.Prepare = async child =>
        {
            await tree.Thread.InvokeAsync(child, () =>
            {
                child.Leader!.Hold();
                return true;
            });
            stands.SetResult(child);
            await go.Task;
        };
        target.SendLine("go");
        ProcessHandle child = await stands.Task.WaitAsync(Patience);
        TracedTask leader = child.Leader!;
        await tree.Thread.InvokeAsync(child, () =>
        {
            tree.Thread.Release(leader);
            return true;
        });
        Assert.That(State(child.ProcessId), Is.EqualTo('t'), "one holds it still");
        Assert.That(leader.IsHeld);
        go.SetResult();
        await child.Completion.WaitAsync(Patience);
        Assert.That(tree.Children.Single().Life, Is.EqualTo(new[] { "forked", "ended Exited 7" }));
        target.SendLine("end");
        target.WaitForExit();
    }

    [Test]
    public async Task WorkIsRefusedForTheOneThatIsOver()
    {
        using TargetProcess target = TargetProcess.StartTarget("dies", null, ["1"]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(target.ProcessId);
        target.SendLine("go");
        target.ReadLineStarting("killed ");
        ProcessHandle child = tree.Children.Single().Process;
        await child.Completion.WaitAsync(Patience);
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => tree.Thread.InvokeAsync(child, () => true));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.ProcessEnded));
        Assert.That(error.ProcessId, Is.EqualTo(child.ProcessId));
        Assert.That(await tree.Thread.InvokeAsync(tree.Root, () => 5), Is.EqualTo(5));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task SlicesOfOneDoNotStarveAnother()
    {
        using TargetProcess target = TargetProcess.StartTarget("dies", null, ["1"]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(target.ProcessId);
        bool isEnough = false;
        IEnumerator<bool> Endless()
        {
            while (!Volatile.Read(ref isEnough))
            {
                yield return true;
            }
        }

        Task endless = tree.Thread.RunSlicedAsync(tree.Root, Endless());
        Task<int> later = tree.Thread.InvokeAsync(tree.Root, () => 2);
        target.SendLine("go");
        target.ReadLineStarting("killed ");
        ProcessHandle child = tree.Children.Single().Process;
        Assert.That(await child.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 7, 0)));
        Assert.That(endless.IsCompleted || later.IsCompleted, Is.False);
        Volatile.Write(ref isEnough, true);
        await endless.WaitAsync(Patience);
        Assert.That(await later.WaitAsync(Patience), Is.EqualTo(2), "of one process it comes in order");
        target.SendLine("end");
        target.WaitForExit();
    }

    /// <summary>A 32-bit program cannot be handled: who executes it is let go, says so, and runs on; others stay.</summary>
    [Test]
    public async Task ExecOfAProgramThatCannotBeObservedLetsGo()
    {
        using PrivateDirectory directory = new("elf32");
        string path = directory["pause"];
        await File.WriteAllBytesAsync(path, RefusalTests.MakeElf32());
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute);
        using TargetProcess shell = TargetProcess.Start("/bin/sh", ["-c", "read x; \"$0\" & echo child $!; read x; kill $!; wait $!; echo code $?; exec \"$0\"", path]);
        await using ProcessTree tree = await ProcessTree.AttachAsync(shell.ProcessId);
        shell.SendLine("go");
        int id = int.Parse(shell.ReadLineStarting("child ").AsSpan(6), CultureInfo.InvariantCulture);
        WaitUntil(() => tree.Children.Any(c => c.Process.IsOver), "the end of control");
        ProcessHandle child = tree.Find(id);
        if (child.Completion.Result.Kind == ProcessExitKind.Exited)
        {
            Assert.Ignore("This kernel does not run 32-bit programs.");
        }

        Assert.That(child.Completion.Result, Is.EqualTo(new ProcessExit(ProcessExitKind.Unobservable, 0, 0)));
        Assert.That(tree.Children.Single().Life, Is.EqualTo(new[] { "forked", "ended Unobservable 0" }));
        Assert.That(await File.ReadAllTextAsync($"/proc/{id}/status"), Does.Contain("TracerPid:\t0"));
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => tree.Thread.InvokeAsync(child, () => true));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.Detached));
        shell.SendLine("go");
        Assert.That(shell.ReadLineStarting("code "), Is.EqualTo("code 143"));
        Assert.That((await tree.Root.Completion.WaitAsync(Patience)).Kind, Is.EqualTo(ProcessExitKind.Unobservable));
        WaitUntil(() => shell.ReadState() == 'S', "it to run by itself");
    }

    private static char State(int processId)
    {
        string text = File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{processId}/stat"));
        return text[text.LastIndexOf(')') + 2];
    }
}
