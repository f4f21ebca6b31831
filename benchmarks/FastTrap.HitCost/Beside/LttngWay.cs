using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>
/// A tracepoint of LTTng-UST with two fields, compiled into a function of its own (the kind makes no difference). In the mode that overwrites, so that no consumer competes for the CPUs: its best case.
/// </summary>
internal sealed class LttngWay() : HitWay(HitTables.Lttng)
{
    private static readonly string[] s_headers = ["/usr/include/lttng/tracepoint.h", "/usr/include/x86_64-linux-gnu/lttng/tracepoint.h", "/usr/include/aarch64-linux-gnu/lttng/tracepoint.h"];
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);

    private TargetProcess? _daemon;
    private bool _hasSession;

    private string Session => Path.GetFileName(ProgramPath);

    public override string CommandLine =>
        "lttng create --snapshot; lttng enable-event -u trampolines:hit; lttng start; PROGRAM built with benchmarks/reference/lttng_hit.h";

    protected override string Called => "plain";

    protected override string? Missing() =>
        Command.Find("lttng") is null || Command.Find("lttng-sessiond") is null ? "missing: install lttng-tools"
        : s_headers.Any(File.Exists) ? null : "missing: install liblttng-ust-dev";

    protected override string BuildProgram() =>
        TargetBuilder.Build("trampolines", TargetVariant.Default with { Flags = $"-DWITH_LTTNG -I{TargetBuilder.SourceDirectory} -llttng-ust -ldl" });

    protected override TargetProcess StartProgram()
    {
        if (!Control("list", "--no-sessiond"))
        {
            _daemon = TargetProcess.Start(Command.Find("lttng-sessiond")!, ["--no-kernel"]);
            long end = Environment.TickCount64 + (long)s_patience.TotalMilliseconds;
            while (!Control("list", "--no-sessiond"))
            {
                if (Environment.TickCount64 > end || _daemon.Exit is not null)
                {
                    throw new InvalidOperationException($"lttng-sessiond does not start: {_daemon.Errors}");
                }
            }
        }

        Require("create", Session, "--snapshot", "--output", ProgramPath + ".lttng");
        _hasSession = true;
        Require("enable-event", "-s", Session, "-u", "trampolines:hit");
        Require("start", Session);
        TargetProcess target = TargetProcess.Start(
            ProgramPath, ["serve"], new TargetStart { Environment = new Dictionary<string, string> { ["LTTNG_UST_REGISTER_TIMEOUT"] = "-1" } });
        target.WaitReady();
        return target;
    }

    protected override Task<bool> AttachAsync() => Task.FromResult(true);

    public override async ValueTask DisposeAsync()
    {
        if (_hasSession)
        {
            Require("destroy", Session);
        }

        await base.DisposeAsync().ConfigureAwait(false);
        if (_daemon is not null)
        {
            const int SIGTERM = 15;
            _daemon.Signal(SIGTERM);
            _daemon.TryWaitForExit(s_patience);
            _daemon.Dispose();
        }

        if (Directory.Exists(ProgramPath + ".lttng"))
        {
            Directory.Delete(ProgramPath + ".lttng", recursive: true);
        }
    }

    private static bool Control(string command, string option) => Command.Run(Command.Find("lttng")!, [option, command], s_patience).ExitCode == 0;

    private static void Require(params string[] arguments)
    {
        CommandResult result = Command.Run(Command.Find("lttng")!, ["--no-sessiond", .. arguments], s_patience);
        if (result.ExitCode != 0)
        {
            throw new InvalidOperationException($"lttng {string.Join(' ', arguments)}: {result.Output}{result.Error}");
        }
    }
}
