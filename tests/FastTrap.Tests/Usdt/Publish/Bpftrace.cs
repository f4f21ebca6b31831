using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Usdt.Publish;

/// <summary>bpftrace as an observer of a publishing process: somebody else's reader of our notes, and the kernel's own counting.</summary>
internal sealed class Bpftrace : IDisposable
{
    private const int Interrupt = 2;

    private readonly PrivateDirectory _directory = new("bpftrace");
    private readonly TargetProcess _tool;

    private Bpftrace(PublishingProcess process, string script)
    {
        _tool = TargetProcess.Start(Require(), ["-B", "none", "-o", _directory["out"], "-p", $"{process.ProcessId}", "-e", script], new TargetStart { Environment = new Dictionary<string, string> { ["BPFTRACE_PERF_RB_PAGES"] = "1024" } });
    }

    private string[] Lines => File.Exists(_directory["out"]) ? File.ReadAllText(_directory["out"]).Split('\n') : [];

    /// <summary>The program; skips the test, with the reason, where it cannot work.</summary>
    public static string Require()
    {
        string? path = Command.Find("bpftrace", "/usr/sbin");
        if (path is null || Posix.geteuid() != 0)
        {
            Assert.Ignore(path is null ? "bpftrace is not installed." : "bpftrace needs root.");
        }

        CommandResult trial = Command.Run(path!, ["-e", "BEGIN { exit(); }"], TimeSpan.FromMinutes(1));
        if (trial.ExitCode != 0)
        {
            Assert.Ignore($"bpftrace cannot work here: {trial.Error.Split('\n')[0]}");
        }

        return path!;
    }

    /// <summary>
    /// Starts a script on the process. It raises the semaphores before it sees the probes, and attaches one after another, so each probe of the
    /// script prints <c>armed ...</c> when the process's command <c>arm</c> fires it.
    /// </summary>
    public static Bpftrace Start(PublishingProcess process, string script, params string[] armed)
    {
        Bpftrace tool = new(process, script);
        try
        {
            for (long start = Environment.TickCount64; armed.Except(tool.Lines).Any();)
            {
                Assert.That(tool._tool.TryWaitForExit(TimeSpan.Zero), Is.False, () => $"bpftrace ended: {tool._tool.Errors}");
                Assert.That(Environment.TickCount64 - start, Is.LessThan(60_000), () => $"bpftrace never saw: {string.Join(", ", armed.Except(tool.Lines))}");
                Assert.That(process.Ask("arm"), Is.EqualTo("done"));
            }

            return tool;
        }
        catch
        {
            tool.Dispose();
            throw;
        }
    }

    /// <summary>Ends it as Ctrl-C does, and gives all lines that it has printed.</summary>
    public IReadOnlyList<string> Finish()
    {
        // It may miss a signal that comes while it attaches; a second one while it ends could cut its output short.
        for (int i = 0; i < 6 && _tool.Exit is null; i++)
        {
            _tool.Signal(Interrupt);
            _tool.TryWaitForExit(TimeSpan.FromSeconds(10));
        }

        Assert.That(_tool.Exit?.Code, Is.Zero, _tool.Errors);
        return Lines;
    }

    public void Dispose()
    {
        _tool.Dispose();
        _directory.Dispose();
    }
}
