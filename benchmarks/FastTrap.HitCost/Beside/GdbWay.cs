using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>A fast tracepoint of gdb: a jump to code that gdbserver puts into the program, whose agent library was preloaded.</summary>
/// <param name="name">How the way is called.</param>
/// <param name="condition">When it is taken, after the location; empty: always.</param>
/// <param name="action">What it does.</param>
internal sealed class GdbWay(string name, string condition, string action) : UprobeWay(name)
{
    private const string Agent = "/usr/lib/libinproctrace.so";

    /// <summary>Kinds whose first instruction has room for a jump.</summary>
    private static readonly string[] s_longEntries = ["nop5", "lea", "rip"];

    private TargetProcess? _gdb;

    public override string CommandLine =>
        $"LD_PRELOAD={Agent} PROGRAM; gdbserver --attach - PID; gdb: ftrace *FUNCTION{(condition.Length == 0 ? "" : " " + condition)}, actions: {action}; tstart";

    protected override string? Missing() =>
        Command.Find("gdb") is null ? "missing: install gdb"
        : Command.Find("gdbserver") is null || !File.Exists(Agent) ? "missing: install gdbserver"
        : s_longEntries.Contains(Kind) ? null
        : Kind == "ret" ? "no return sites"
        : "needs one instruction of 5 bytes";

    /// <summary>At fixed addresses: gdbserver's code lies low, out of reach of a program that is position-independent.</summary>
    protected override string BuildProgram() => TargetBuilder.Build("trampolines", TargetVariant.Default with { Link = TargetLink.NoPie });

    protected override TargetProcess StartProgram()
    {
        TargetProcess target = TargetProcess.Start(ProgramPath, ["serve"], new TargetStart { Environment = new Dictionary<string, string> { ["LD_PRELOAD"] = Agent } });
        target.WaitReady();
        return target;
    }

    protected override Task<bool> AttachAsync()
    {
        _ = FindOffset();
        byte[] before = ReadText();
        string[] commands =
        [
            "set pagination off", "set confirm off", "set breakpoint pending off", "set circular-trace-buffer on", $"file {ProgramPath}",
            $"target remote | {Command.Find("gdbserver")} --attach - {Target.ProcessId}", "tvariable $hits = 0",
            $"ftrace *hot_{Kind} {condition}".TrimEnd(), $"actions\n{action}\nend", "tstart", "continue",
        ];
        string script = ProgramPath + ".gdb";
        File.WriteAllText(script, string.Join('\n', commands) + "\n");
        _gdb = TargetProcess.Start(Command.Find("gdb")!, ["-nx", "-q", "-batch", "-x", script]);
        WaitForChange(before, _gdb);
        return Task.FromResult(true);
    }

    public override async ValueTask DisposeAsync()
    {
        _gdb?.Dispose();
        await base.DisposeAsync().ConfigureAwait(false);
        File.Delete(ProgramPath + ".gdb");
    }
}
