using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Usdt.Publish;

/// <summary>Published probes as other tools see them: bpftrace, gdb, readelf.</summary>
[TestFixture, NonParallelizable]
public sealed class ToolTests
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(1);

    [Test]
    public void Bpftrace_CountsWhatTheProgramFired_AndTheSemaphoreFollows()
    {
        Bpftrace.Require();
        using PublishingProcess process = new("netcount");
        Assert.That(process.Ask("enabled"), Is.EqualTo("enabled False False"));
        using Bpftrace tool = Bpftrace.Start(process, "usdt:*:netcount:tick { if (arg0 == 0) { printf(\"armed\\n\"); } else { @n = count(); @first = sum(arg0); @second = sum((int64)arg1); } }", "armed");
        Assert.That(process.Ask("enabled"), Is.EqualTo("enabled True False"), "Only the probe that is traced.");
        Assert.That(process.Ask("fire 1000"), Is.EqualTo("count tick 1000"));
        IReadOnlyList<string> lines = tool.Finish();
        Assert.That(lines, Does.Contain("@n: 1000").And.Contains("@first: 500500").And.Contains("@second: -500500"));
        process.WaitUntilEnabled(false);
        Assert.That(process.Ask("fire 1"), Is.EqualTo("count tick 1001"));
    }

    [Test]
    public void Bpftrace_CountsEightThreads()
    {
        Bpftrace.Require();
        using PublishingProcess process = new("netthreads");
        using Bpftrace tool = Bpftrace.Start(process, "usdt:*:netthreads:tick { if (arg1 == 0) { printf(\"armed\\n\"); } else { @n = count(); @threads[tid] = count(); } }", "armed");
        Assert.That(process.Ask("threads 8 2000"), Is.EqualTo("count tick 16000"));
        IReadOnlyList<string> lines = tool.Finish();
        Assert.That(lines, Does.Contain("@n: 16000"));
        Assert.That(lines.Count(line => line.StartsWith("@threads[", StringComparison.Ordinal) && line.EndsWith("]: 2000", StringComparison.Ordinal)), Is.EqualTo(8));
    }

    [Test]
    public void Bpftrace_ReadsTheArgumentsThatWerePassed()
    {
        Bpftrace.Require();
        using PublishingProcess process = new("netargs");
        using Bpftrace tool = Bpftrace.Start(process, """
            usdt:*:netargs:bare { printf("armed bare\n"); }
            usdt:*:netargs:request__start { if (arg1 == 0) { printf("armed request\n"); } else { printf("[%s] %d %d %d\n", str(arg0), arg0 == 0, arg1, arg2); } }
            usdt:*:netargs:six { if (arg0 == 0) { printf("armed six\n"); } else { printf("%llx %llx %d %d %d %d\n", arg0, arg1, arg2, arg3, arg4, arg5); } }
            """, "armed bare", "armed request", "armed six");

        // Several times: BPF reads no page that is not in memory at that moment.
        for (int i = 0; i < 5; i++)
        {
            process.Ask("text grüße 大");
            process.Ask("mixed");
            process.Ask("long 5000");
        }

        IReadOnlyList<string> lines = tool.Finish();
        Assert.That(lines, Does.Contain("[grüße 大] 0 200 65000").And.Contains("[] 1 1 2").And.Contains("ffffffffffffffff ee6b2800 -2 122 1 -1"));
        Assert.That(lines.Count(line => line.StartsWith("[xxxxxxxx", StringComparison.Ordinal) && line.EndsWith("] 0 1 2", StringComparison.Ordinal)), Is.GreaterThan(0));
    }

    [Test]
    public void TwoProviders_AreListedEach()
    {
        string bpftrace = Bpftrace.Require();
        using PublishingProcess process = new("netone");
        string second = process.Ask("second nettwo")["path ".Length..];
        Assert.That(second, Is.Not.EqualTo(process.ImagePath));
        string list = Command.Run(bpftrace, ["-p", $"{process.ProcessId}", "-l", "usdt:*:*"], s_patience).Output;
        Assert.That(list.Split('\n'), Is.SupersetOf(new[] { $"usdt:{second}:nettwo:pulse", $"usdt:{process.ImagePath}:netone:tick", $"usdt:{process.ImagePath}:netone:request__start" }));
    }

    [Test]
    public void Gdb_ListsTheProbes_AndBreaksAtOneWithItsArguments()
    {
        string? gdb = Command.Find("gdb");
        if (gdb is null)
        {
            Assert.Ignore("gdb is not installed.");
        }

        using PublishingProcess process = new("netgdb");
        using PrivateDirectory directory = new("gdb");
        File.WriteAllText(directory["script"], """
            set pagination off
            info probes stap netgdb
            break -probe-stap netgdb:tick
            echo armed\n
            continue
            printf "arguments %d %d %d\n", $_probe_argc, $_probe_arg0, $_probe_arg1
            delete
            detach
            """);
        using TargetProcess tool = TargetProcess.Start(gdb!, ["-nx", "-batch", "-p", $"{process.ProcessId}", "-x", directory["script"]]);
        try
        {
            tool.ReadLineContaining("armed");
        }
        catch (EndOfStreamException exception) when (exception.Message.Contains("not permitted", StringComparison.Ordinal))
        {
            Assert.Ignore("gdb may not attach here.");
        }

        process.Target.SendLine("fire 1");
        tool.ReadLineContaining("arguments ");
        Assert.That(tool.WaitForExit().Code, Is.Zero, tool.Errors);
        Assert.That(process.Target.ReadLine(), Is.EqualTo("count tick 1"));
        string[] probes = [.. tool.Lines.Where(line => line.StartsWith("stap netgdb ", StringComparison.Ordinal)).Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[2])];
        Assert.That(probes, Is.EquivalentTo(new[] { "tick", "request__start", "bare", "sample", "six" }));
        Assert.That(tool.Lines, Does.Contain("arguments 2 1 -1"));
        process.WaitUntilEnabled(false);
    }

    [Test]
    public void Disposed_IsGoneForTools_AndThenForTheProcess()
    {
        using PublishingProcess process = new("netgone");
        Assert.That(File.Exists(process.ImagePath));
        Assert.That(process.Mappings(), Is.Not.Empty);
        Assert.That(process.Ask("dispose"), Is.EqualTo("done"));
        Assert.That(File.Exists(process.ImagePath), Is.False, "No tool finds the notes any more.");
        Collect(process, () => process.Mappings().Length == 0);
        Assert.That(process.Ask("fire 3"), Is.EqualTo("count tick 3"));
    }

    [Test]
    public void DisposedWhileTraced_StaysMappedUntilTheToolHasGone()
    {
        using PublishingProcess process = new("netheld");
        process.WriteSemaphore("tick", 1);
        Assert.That(process.Ask("enabled"), Is.EqualTo("enabled True False"));
        string[] mappings = process.Mappings();
        ulong address = Convert.ToUInt64(mappings[0].Split('-')[0], 16) + ElfTools.Variable(process.ImagePath, "netheld_tick_semaphore");
        process.Ask("dispose");
        Assert.That(process.Ask("enabled"), Is.EqualTo("enabled False False"));
        for (int i = 0; i < 3; i++)
        {
            process.Ask("collect");
        }

        Assert.That(process.Mappings(), Is.EqualTo(mappings), "A semaphore is raised.");
        using (FileStream memory = new($"/proc/{process.ProcessId}/mem", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, 0))
        {
            memory.Seek((long)address, SeekOrigin.Begin);
            memory.Write([0, 0]);
        }

        Collect(process, () => process.Mappings().Length == 0);
    }

    [Test]
    public void AtAPath_TheFileIsThereUntilTheDisposal()
    {
        using PublishingProcess process = new("netfile", atPath: true);
        Assert.That(File.ReadAllText($"/proc/{process.ProcessId}/maps"), Does.Contain(process.ImagePath));
        string notes = Command.Run(Command.Find("readelf") ?? Ignore("readelf is not installed."), ["-nW", process.ImagePath], s_patience).Output;
        Assert.That(notes, Does.Contain("Name: request__start").And.Contains("Arguments: 8@%rdi 1@%sil 2@%dx").Or.Contains("Arguments: 8@x0 1@x1 2@x2"));
        process.Ask("dispose");
        Assert.That(File.Exists(process.ImagePath), Is.False);
    }

    private static string Ignore(string reason)
    {
        Assert.Ignore(reason);
        return "";
    }

    private static void Collect(PublishingProcess process, Func<bool> until)
    {
        for (int i = 0; i < 50 && !until(); i++)
        {
            process.Ask("collect");
        }

        Assert.That(until(), string.Join('\n', process.Mappings()));
    }
}
