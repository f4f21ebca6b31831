using System.Globalization;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Kit;

/// <summary>The kit itself: a test of the library is only as good as this.</summary>
[TestFixture, NonParallelizable]
public sealed class TargetKitTests
{
    private static readonly string[] s_twoCommandTargets = ["calls", "signals", "forks", "ownint3", "blocked", "hashing", "ripmix", "threadedcpp"];

    [Test]
    public void EveryTargetTellsTheSameTruthInEveryVariant(
        [ValueSource(nameof(s_twoCommandTargets))] string name, [ValueSource(typeof(TargetVariant), nameof(TargetVariant.All))] TargetVariant variant)
    {
        string[] truth = Run(name, TargetVariant.Default);
        Assert.That(truth, Has.Some.StartsWith("count ").Or.Some.StartsWith("checksum "));
        Assert.That(Run(name, variant), Is.EqualTo(truth));
    }

    [Test]
    public void EintrTargetParksUntilTold()
    {
        using TargetProcess target = TargetProcess.StartTarget("eintr");
        Assert.That(Directory.GetDirectories($"/proc/{target.ProcessId}/task"), Has.Length.EqualTo(15));
        target.SendLine("stop");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), () => string.Join('\n', target.Lines));
        Assert.That(target.Lines, Does.Contain("eintr epoll_wait 0").And.Contain("eintr semop 0"));
    }

    [Test]
    public void ThreadsTargetCountsExactly()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", arguments: ["64"]);
        Assert.That(Directory.GetDirectories($"/proc/{target.ProcessId}/task"), Has.Length.EqualTo(65));
        Assert.That(target.SendAndReadCount("go 10", "hot"), Is.EqualTo(640));
        Assert.That(target.SendAndReadCount("churn 5", "hot"), Is.EqualTo(5));
        target.SendLine("quit");
        Assert.That(target.ReadLineStarting("total hot "), Is.EqualTo("total hot 640"));
        Assert.That(target.WaitForExit().Code, Is.Zero);
    }

    [Test]
    public void JobsTargetStopsAndContinues()
    {
        using TargetProcess target = TargetProcess.StartTarget("jobs");
        target.SendLine("stop");
        Assert.That(() => target.ReadState(), Is.EqualTo('T').After(10_000, 5));
        target.Signal(Posix.SIGCONT);
        Assert.That(target.ReadLineStarting("continued "), Is.EqualTo("continued 1"));
        target.SendLine("quit");
        Assert.That(target.WaitForExit().Code, Is.Zero);
    }

    [Test]
    public void ExitCodesAndSignalsArrive()
    {
        using TargetProcess exits = TargetProcess.Start("/bin/sh", ["-c", "exit 42"]);
        Assert.That(exits.WaitForExit(), Is.EqualTo(new TargetExit(42, 0)));
        using TargetProcess killed = TargetProcess.Start("/bin/sh", ["-c", "kill -TERM $$"]);
        Assert.That(killed.WaitForExit(), Is.EqualTo(new TargetExit(0, Posix.SIGTERM)));
        Assert.That(() => TargetProcess.Start("/nonexistent/program"), Throws.InstanceOf<IOException>());
    }

    [Test]
    public void OutputAndErrorsAreKept()
    {
        using TargetProcess target = TargetProcess.Start("/bin/sh", ["-c", "echo one; echo bad >&2; read x; echo got $x; printf end"]);
        Assert.That(target.ReadLine(), Is.EqualTo("one"));
        target.SendLine("two words");
        target.WaitForExit();
        Assert.That(target.Lines, Is.EqualTo(new[] { "one", "got two words", "end" }));
        Assert.That(target.Errors, Is.EqualTo("bad\n"));
    }

    [Test]
    public void DisposeEndsEvenAStoppedTarget()
    {
        TargetProcess target = TargetProcess.StartTarget("threads", arguments: ["2"]);
        target.Signal(Posix.SIGSTOP);
        int processId = target.ProcessId;
        target.Dispose();
        Assert.That(Directory.Exists($"/proc/{processId}"), Is.False);
        Assert.That(Leftovers.Find(), Has.None.Contains("child process"));
    }

    [TestCase("states", "traced")]
    [TestCase("/bin/sh", "-c", "sh -c 'echo child $$; exec sleep 1000' & wait")]
    [TestCase("/bin/sh", "-c", "sh -c 'echo child $$; exec sleep 1000' & echo done", true)]
    public void NobodyWhomATargetStartsIsLeftBehind(string program, params object[] arguments)
    {
        string[] texts = [.. arguments.OfType<string>()];
        bool endsByItself = arguments.OfType<bool>().Any();
        using TargetProcess target = TargetProcess.Start(program == "states" ? TargetBuilder.Build(program) : program, texts);
        int child = int.Parse(target.ReadLineStarting("child ").AsSpan("child ".Length), CultureInfo.InvariantCulture);
        if (endsByItself)
        {
            Assert.That(target.TryWaitForExit(TimeSpan.FromSeconds(20)), Is.True);
        }

        Assert.That(Directory.Exists($"/proc/{child}"), Is.True);
        target.Dispose();
        Assert.That(Directory.Exists($"/proc/{child}"), Is.False);
    }

    [Test]
    public void LeftoversFindsAChildAndAFile()
    {
        using (PrivateDirectory directory = new("leftover"))
        using (TargetProcess.StartTarget("jobs"))
        {
            Assert.That(Leftovers.Find(), Has.Some.Contains("runner").And.Some.Contains(directory.FullPath));
        }

        Assert.That(Leftovers.Find(), Has.None.Contains("runner").And.None.Contains("leftover"));
    }

    [Test]
    public void TextCheckFindsAForeignByteAndOnlyThat()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", TargetVariant.Default with { Link = TargetLink.NoPie }, ["1"]);
        Assert.That(TextCheck.Compare(target.ProcessId), Is.Empty);
        string map = File.ReadAllLines($"/proc/{target.ProcessId}/maps").First(line => line.Contains(" r-xp ", StringComparison.Ordinal));
        ulong address = Convert.ToUInt64(map[..map.IndexOf('-', StringComparison.Ordinal)], 16) + 0x10;
        using (FileStream memory = new($"/proc/{target.ProcessId}/mem", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0))
        {
            memory.Seek((long)address, SeekOrigin.Begin);
            memory.WriteByte(0xcc);
        }

        IReadOnlyList<TextDifference> differences = TextCheck.Compare(target.ProcessId);
        Assert.That(differences, Has.Count.EqualTo(1));
        Assert.That(differences[0].Address, Is.EqualTo(address));
        Assert.That(differences[0].InMemory, Is.EqualTo(0xcc));
    }

    [Test]
    public void TargetsCanRunAsAnotherUser()
    {
        if (Posix.geteuid() != 0)
        {
            Assert.Ignore("Only root can start a program as another user.");
        }

        using TargetProcess target = TargetProcess.StartTarget("jobs", options: new TargetStart { User = 65534 });
        Assert.That(File.ReadAllLines($"/proc/{target.ProcessId}/status"), Has.Some.EqualTo("Uid:\t65534\t65534\t65534\t65534"));
        target.SendLine("quit");
        Assert.That(target.WaitForExit().Code, Is.Zero);
    }

    [Test]
    public void PreloadedCounterCountsTheProgramsCalls()
    {
        using PrivateDirectory directory = new("preload");
        Dictionary<string, string> environment = new()
        {
            ["LD_PRELOAD"] = TargetBuilder.BuildLibrary("preload_count"),
            ["FASTTRAP_MALLOC_COUNTS"] = directory["counts"],
            ["TARGET_NOWAIT"] = "1",
        };
        using TargetProcess target = TargetProcess.Start(TargetBuilder.Build("hashing"), options: new TargetStart { Environment = environment });
        Assert.That(target.WaitForExit().Code, Is.Zero);

        // hashing makes three buffers and frees none; it uses no stream that needs a buffer.
        Assert.That(File.ReadAllLines(directory[$"counts.{target.ProcessId}"]), Is.EqualTo(new[] { "malloc 3", "free 0", "calloc 0", "realloc 0" }));
    }

    private static string[] Run(string name, TargetVariant variant)
    {
        string[] arguments = name == "signals" ? ["4", "200", "5", "5"] : [];
        using TargetProcess target = TargetProcess.StartTarget(name, variant, arguments);
        target.SendLine("go");
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), () => string.Join('\n', target.Lines) + target.Errors);
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));

        // How many signals there were, and the process id, are not the same every time.
        return [.. target.Lines.Where(line => !line.StartsWith("ready", StringComparison.Ordinal) && (name != "signals" || line.StartsWith("checksum", StringComparison.Ordinal) || line.StartsWith("count s", StringComparison.Ordinal) || line.StartsWith("faults", StringComparison.Ordinal)))];
    }
}
