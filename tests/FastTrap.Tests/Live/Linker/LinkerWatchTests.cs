using FastTrap.Control;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live.Linker;

/// <summary>Libraries that come and go: each is announced once, before any of its code runs, and the target notices nothing.</summary>
[TestFixture]
public sealed class LinkerWatchTests : LinkerTest
{
    [Test]
    public async Task ConstructorOfALoadedLibraryIsProbed()
    {
        using PrivateDirectory directory = new("linker");
        string[] plugins = CopyPlugins(directory, 1);
        using TargetProcess target = StartDlopens(plugins);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        List<ProbeEnabling> enablings = [];
        Recorder recorder = new(async events =>
        {
            if (events.Any(e => e.Kind == LinkerEventKind.Added))
            {
                enablings.Add(await process.EnableAsync("libplugin0.so:plugin_prepare:entry", CountOnly));
            }
        });
        LinkerWatch watch = await WatchAsync(process, recorder);
        Assert.That((watch.IsWatching, watch.Problem), Is.EqualTo((true, (string?)null)));
        Assert.That(recorder.Events, Is.Empty, "what is loaded already is not announced");
        Do(target, "open 0");
        Do(target, "close");
        Do(target, "open 0");
        Do(target, "close");
        Assert.That(recorder.Failure, Is.Null);
        Assert.That(enablings, Has.Count.EqualTo(2));
        Assert.That(enablings.Sum(e => e.HitCount), Is.EqualTo(4), "two calls of each constructor");
        Assert.That(target.GetCount("prepared"), Is.EqualTo(4));
        Assert.That(enablings.Select(e => e.Failures.Count(f => f.Refusal == ProbeRefusal.Unloaded)), Is.All.EqualTo(1));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Quit(target);
    }

    [Test]
    public async Task ThreadsThatLoadAndUnloadAreCounted()
    {
        const int Threads = 4;
        const int Loops = 250;
        using PrivateDirectory directory = new("linker");
        string[] plugins = CopyPlugins(directory, Threads);
        using TargetProcess target = StartDlopens(plugins);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Recorder recorder = new();
        LinkerWatch watch = await WatchAsync(process, recorder);
        LinkedObject[] before = [.. watch.Objects];
        Do(target, $"storm {Threads} {Loops}");
        foreach (string plugin in plugins)
        {
            Assert.That((recorder.Count(LinkerEventKind.Added, plugin), recorder.Count(LinkerEventKind.Removed, plugin)), Is.EqualTo((Loops, Loops)));
        }

        Assert.That((target.GetCount("opened"), target.GetCount("closed")), Is.EqualTo((Threads * (long)Loops, Threads * (long)Loops)));
        Assert.That(recorder.Events, Has.Count.EqualTo(2 * Threads * Loops));
        Assert.That(watch.Objects, Is.EquivalentTo(before));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Do(target, $"storm {Threads} 5");
        Quit(target);
    }

    [Test]
    public async Task UsersProbeSharesTheLinkersBreakpoint([Values] bool probeFirst, [Values] bool probeLeavesFirst)
    {
        using PrivateDirectory directory = new("linker");
        string[] plugins = CopyPlugins(directory, 2);
        using TargetProcess target = StartDlopens(plugins);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Recorder recorder = new();
        ProbeEnabling? probe = probeFirst ? await process.EnableAsync("ld-linux*:_dl_debug_state:entry", CountOnly) : null;
        LinkerWatch watch = await WatchAsync(process, recorder);
        probe ??= await process.EnableAsync("ld-linux*:_dl_debug_state:entry", CountOnly);
        ulong address = watch.BreakpointAddress;
        byte[] seen = new byte[1];
        Assert.That(process.ReadMemory(address, seen), Is.EqualTo(1));
        Assert.That((seen[0], ReadRaw(target.ProcessId, address)), Is.EqualTo(((byte)0xC3, (byte)0xCC)), "the trap stands, and is hidden");
        Do(target, "storm 2 20");
        Assert.That(recorder.Events, Has.Count.EqualTo(80));
        Assert.That((probe.HitCount, watch.Hits), Is.EqualTo((160L, 160L)), "two calls for each change");
        if (probeLeavesFirst)
        {
            await probe.DisposeAsync();
            Assert.That(ReadRaw(target.ProcessId, address), Is.EqualTo(0xCC), "the watch needs it");
            Do(target, "storm 2 10");
            Assert.That((recorder.Events.Count, probe.HitCount), Is.EqualTo((120, 160L)));
        }
        else
        {
            await process.Handle.Thread.InvokeAsync(() =>
            {
                watch.Stop();
                return true;
            });
            Assert.That(ReadRaw(target.ProcessId, address), Is.EqualTo(0xCC), "the probe needs it");
            Do(target, "storm 2 10");
            Assert.That((recorder.Events.Count, probe.HitCount), Is.EqualTo((80, 240L)));
            await probe.DisposeAsync();
            Assert.That(ReadRaw(target.ProcessId, address), Is.EqualTo(0xC3));
        }

        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Quit(target);
    }

    [Test]
    public async Task ProbesOfTheBreakpointFireOnceForAThreadThatWasHeldThere()
    {
        using PrivateDirectory directory = new("linker");
        using TargetProcess target = StartDlopens(CopyPlugins(directory, 1));
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling probe = await process.EnableAsync("ld-linux*:_dl_debug_state:entry", CountOnly);
        Recorder recorder = new(_ => Task.CompletedTask);
        LinkerWatch watch = await WatchAsync(process, recorder);
        Do(target, "storm 1 50");
        Assert.That((probe.HitCount, watch.Hits, recorder.Events.Count), Is.EqualTo((200L, 200L, 100)));
        await process.DisposeAsync();
        Quit(target);
    }

    [Test]
    public async Task NamespacesAreWatched()
    {
        using PrivateDirectory directory = new("linker");
        string[] plugins = CopyPlugins(directory, 1);
        using TargetProcess target = StartDlopens(plugins);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Recorder recorder = new();
        await WatchAsync(process, recorder);
        Do(target, "namespace 0");
        Do(target, "namespace 0");
        Assert.That((recorder.Count(LinkerEventKind.Added, plugins[0]), recorder.Count(LinkerEventKind.Removed, plugins[0])), Is.EqualTo((2, 2)));
        await process.DisposeAsync();
        Quit(target);
    }

    [Test]
    public async Task ChildrenAreClean()
    {
        using PrivateDirectory directory = new("linker");
        using TargetProcess target = StartDlopens(CopyPlugins(directory, 1));
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Recorder recorder = new();
        LinkerWatch watch = await WatchAsync(process, recorder);
        for (int i = 0; i < 5; i++)
        {
            Do(target, "fork");
            Do(target, "vfork");
        }

        Assert.That((recorder.Events.Count, watch.Hits), Is.EqualTo((0, 0L)), "what children load is their own business");
        Do(target, "open 0");
        Assert.That(recorder.Events, Has.Count.EqualTo(1));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Quit(target);
    }

    [Test]
    public async Task ExecRenewsTheWatch()
    {
        using PrivateDirectory directory = new("linker");
        string[] plugins = CopyPlugins(directory, 1);
        using TargetProcess target = StartDlopens(plugins);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Recorder recorder = new();
        LinkerWatch first = await WatchAsync(process, recorder);
        target.SendLine("exec");
        target.ReadLineStarting("done again");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
        await process.Completion.WaitAsync(Patience);
        Assert.That(process.Handle.Linker, Is.Not.SameAs(first));
        string[] added = [.. recorder.Events.Where(e => e.Kind == LinkerEventKind.Added).Select(e => e.Path)];
        Assert.That(added, Is.Unique);
        Assert.That(added[0], Is.EqualTo(TargetBuilder.Build("dlopens")), "the program comes first");
        Assert.That(added[^1], Is.EqualTo(plugins[0]));
        Assert.That(added, Has.Some.EndsWith("/libc.so.6").And.Some.Contains("/ld-linux"));
        Assert.That(recorder.Events[^1].Kind, Is.EqualTo(LinkerEventKind.Removed));
    }

    [Test]
    public async Task EveryLibraryOfAProgramIsAnnouncedOnce([Values("python", "java")] string name)
    {
        using PrivateDirectory directory = new("linker");
        string path;
        string[] arguments;
        if (name == "python")
        {
            path = "/usr/bin/python3";
            Assume.That(File.Exists(path), "Debian's Python is not installed.");
            arguments = ["-I", "-c", "import ctypes, ssl, sqlite3, _decimal, _json, _lzma, zlib, time\nprint('ready', flush=True)\nwhile True: time.sleep(60)"];
        }
        else
        {
            path = RealPrograms.Require("java");
            await File.WriteAllTextAsync(
                directory["Program.java"],
                "public class Program { public static void main(String[] a) throws Exception { java.net.InetAddress.getLoopbackAddress(); "
                + "new java.util.zip.CRC32().update(1); System.out.println(\"ready\"); System.out.flush(); Thread.sleep(600000); } }");
            arguments = [directory["Program.java"]];
        }

        TracedProcess process = await Tracer.CreateAsync(
            path, arguments, new CreateOptions { StopAt = CreateStop.Exec, StandardOutput = directory["out"], StandardError = directory["err"] });
        Recorder recorder = new();
        await WatchAsync(process, recorder);
        await process.ResumeAsync();
        WaitUntil(() => process.Completion.IsCompleted || File.ReadAllText(directory["out"]).Contains("ready", StringComparison.Ordinal), "the program to be ready");
        string[] mapped =
        [
            .. File.ReadAllLines($"/proc/{process.ProcessId}/maps").Select(line => line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries))
                .Where(fields => fields.Length == 6 && fields[1][2] == 'x' && fields[5].StartsWith('/') && !fields[5].EndsWith(".jsa", StringComparison.Ordinal)
                    && !fields[5].StartsWith("/memfd", StringComparison.Ordinal) && !fields[5].StartsWith("/tmp/hsperf", StringComparison.Ordinal))
                .Select(fields => fields[5]).Distinct(),
        ];
        string[] added = [.. recorder.Events.Where(e => e.Kind == LinkerEventKind.Added).Select(e => Resolve(e.Path)).Where(p => p.StartsWith('/'))];
        string[] removed = [.. recorder.Events.Where(e => e.Kind == LinkerEventKind.Removed).Select(e => Resolve(e.Path))];
        TestContext.Out.WriteLine($"{added.Length} added, {removed.Length} removed, {mapped.Length} mapped");
        Assert.That(mapped, Has.Length.GreaterThan(8));
        List<string> left = [.. added];
        foreach (string gone in removed)
        {
            Assert.That(left.Remove(gone), gone);
        }

        Assert.That(recorder.Events.Select(e => e.Object.Length), Is.All.GreaterThan(0UL));
        Assert.That(left, Is.EquivalentTo(mapped), File.ReadAllText(directory["err"]));
        await process.DisposeAsync();

        static string Resolve(string path) => Posix.ResolvePath(path);
    }

    [Test]
    public async Task StaticProgramsHaveNothingToWatch()
    {
        foreach (string flags in new[] { "-static", "-static-pie" })
        {
            TargetVariant variant = flags == "-static" ? new TargetVariant(TargetLink.Static) : new TargetVariant(TargetLink.Pie, 2, "-static-pie");
            using TargetProcess target = TargetProcess.StartTarget("calls", variant, ["1", "1"]);
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            LinkerWatch watch = await WatchAsync(process, new Recorder());
            Assert.That(watch.Problem, Is.Null, flags);
            Assert.That(watch.IsWatching, Is.EqualTo(flags == "-static-pie"), "static-pie glibc fills its DT_DEBUG");
            await process.DisposeAsync();
            TextCheck.AssertClean(target.ProcessId);
        }
    }

    [Test]
    public async Task DetachAtAnyMomentRestoresTheText()
    {
        using PrivateDirectory directory = new("linker");
        using TargetProcess target = StartDlopens(CopyPlugins(directory, 4));
        for (int i = 0; i < 12; i++)
        {
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            Recorder recorder = new(i % 2 == 0 ? _ => Task.CompletedTask : null);
            LinkerWatch watch = await WatchAsync(process, recorder);
            ulong address = watch.BreakpointAddress;
            target.SendLine("storm 4 40");
            WaitUntil(() => recorder.Events.Count > i * 5, "events");
            await process.DisposeAsync();
            Assert.That(ReadRaw(target.ProcessId, address), Is.EqualTo(0xC3));
            target.ReadLineStarting("done storm");
        }

        Assert.That(target.GetCount("closed"), Is.EqualTo(12 * 160));
        TextCheck.AssertClean(target.ProcessId);
        Quit(target);
    }

    [Test]
    public async Task AttachInTheMiddleMissesNothingThatComesAfter()
    {
        using PrivateDirectory directory = new("linker");
        string[] plugins = CopyPlugins(directory, 3);
        using TargetProcess target = StartDlopens(plugins);
        for (int i = 0; i < 8; i++)
        {
            target.SendLine("storm 3 60");
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            Recorder recorder = new();
            ProcessHandle handle = process.Handle;
            HashSet<string> loaded = [];
            LinkerWatch watch = await handle.Thread.InvokeAsync(() =>
            {
                handle.Observer = recorder;
                LinkerWatch begun = handle.Thread.WatchLinker(handle);
                loaded = [.. begun.Objects.Select(o => o.Path)];
                return begun;
            });
            target.ReadLineStarting("done storm");
            foreach (LinkerEvent change in recorder.Events)
            {
                Assert.That(change.Kind == LinkerEventKind.Added ? loaded.Add(change.Path) : loaded.Remove(change.Path), $"{change.Kind} {change.Path}");
            }

            Assert.That(loaded.Intersect(plugins), Is.Empty);
            Assert.That(watch.Objects.Select(o => o.Path), Is.EquivalentTo(loaded));
            await process.DisposeAsync();
        }

        TextCheck.AssertClean(target.ProcessId);
        Quit(target);
    }

    [Test]
    public async Task MuslIsWatched()
    {
        string? compiler = Command.Find("musl-gcc");
        Assume.That(compiler, Is.Not.Null, "musl-tools is not installed.");
        using PrivateDirectory directory = new("linker");
        Compile("-shared", "-fPIC", "-o", directory["libplugin.so"], Path.Combine(TargetBuilder.SourceDirectory, "plugin.c"));
        Compile("-pie", "-fPIE", "-o", directory["dlopens"], Path.Combine(TargetBuilder.SourceDirectory, "dlopens.c"));
        string plugin = CopyPlugins(directory, 1, directory["libplugin.so"])[0];
        using TargetProcess target = TargetProcess.Start(directory["dlopens"], [plugin]);
        target.WaitReady();
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling? prepare = null;
        Recorder recorder = new(async _ => prepare = await process.EnableAsync("libplugin0.so:plugin_prepare:entry", CountOnly));
        LinkerWatch watch = await WatchAsync(process, recorder);
        Assert.That(watch.IsWatching, watch.Problem);
        Do(target, "open 0");
        Do(target, "close");
        Do(target, "open 0");
        Assert.That(recorder.Failure, Is.Null);
        Assert.That(prepare!.HitCount, Is.EqualTo(2), "two calls of its constructor");
        Assert.That(recorder.Events.Select(e => (e.Kind, e.Path)), Is.EqualTo(new[] { (LinkerEventKind.Added, plugin) }), "musl unmaps nothing");
        Do(target, "fork");
        target.SendLine("exec");
        target.ReadLineStarting("done again");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
        await process.Completion.WaitAsync(Patience);
        Assert.That(recorder.Events.Skip(1).Select(e => e.Path).Where(p => p.StartsWith('/')), Is.EqualTo(new[] { directory["dlopens"], "/lib/ld-musl-x86_64.so.1", plugin }));

        void Compile(params string[] arguments)
        {
            CommandResult result = Command.Run(compiler!, ["-O1", "-w", "-D_GNU_SOURCE", .. arguments], TimeSpan.FromMinutes(1));
            Assert.That(result.ExitCode, Is.Zero, result.Error);
        }
    }

    [Test]
    public async Task ActionForTrapsIsTheProgramsOwnAfterwards()
    {
        using PrivateDirectory directory = new("linker");
        using TargetProcess target = StartDlopens(CopyPlugins(directory, 1));
        Do(target, "ignore");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Recorder recorder = new();
        await WatchAsync(process, recorder);
        Do(target, "storm 1 5");
        Assert.That(recorder.Events, Has.Count.EqualTo(10));
        await process.DisposeAsync();
        Do(target, "ignored");
        Assert.That(target.GetCount("ignored"), Is.EqualTo(1));
        Quit(target);
    }

    [Test]
    public async Task LastResortRestoresTheText()
    {
        using PrivateDirectory directory = new("linker");
        using TargetProcess target = StartDlopens(CopyPlugins(directory, 1));
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        LinkerWatch watch = await WatchAsync(process, new Recorder());
        await process.EnableAsync("ld-linux*:_dl_debug_state:entry", CountOnly);
        Assert.That(ReadRaw(target.ProcessId, watch.BreakpointAddress), Is.EqualTo(0xCC));
        process.RestoreBytes();
        TextCheck.AssertClean(target.ProcessId);
        Do(target, "storm 1 5");
        await process.DisposeAsync();
        Quit(target);
    }

    [Test]
    public async Task WatchOutlivesTheMainThread()
    {
        using PrivateDirectory directory = new("linker");
        string[] plugins = CopyPlugins(directory, 1);
        using TargetProcess target = StartDlopens(plugins);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Recorder recorder = new();
        await WatchAsync(process, recorder);
        target.SendLine("leave");
        WaitUntil(() => target.ReadState() == 'Z', "the main thread to end");
        Do(target, "storm 1 20");
        Assert.That((recorder.Count(LinkerEventKind.Added, plugins[0]), recorder.Count(LinkerEventKind.Removed, plugins[0])), Is.EqualTo((20, 20)));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
        Assert.That((await process.Completion.WaitAsync(Patience)).Kind, Is.EqualTo(ProcessExitKind.Exited));
    }
}
