using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>
/// uftrace, in a function that was compiled with room for its call, which is patched in when the program starts; it records entry and return. The kind makes no difference: what has no such room is not patched.
/// </summary>
internal sealed class UftraceWay() : HitWay(HitTables.Uftrace)
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);

    private string Data => ProgramPath + ".uftrace";

    public override string CommandLine => "uftrace record --no-libcall -P FUNCTION PROGRAM, built with -fpatchable-function-entry=5 (entry and return)";

    protected override string Called => "plain";

    protected override string? Missing() => Command.Find("uftrace") is null ? "missing: install uftrace" : null;

    protected override string BuildProgram() => TargetBuilder.Build("trampolines", TargetVariant.Default with { Flags = "-fpatchable-function-entry=5" });

    protected override TargetProcess StartProgram()
    {
        TargetProcess recorder = TargetProcess.Start(
            Command.Find("uftrace")!, ["record", "--no-libcall", "--no-event", "-P", "^hot_plain$", "-d", Data, ProgramPath, "serve"]);
        recorder.ReadLineStarting("ready ");
        return recorder;
    }

    protected override Task<bool> AttachAsync() => Task.FromResult(true);

    public override async ValueTask DisposeAsync()
    {
        if (Target is not null)
        {
            // It removes its shared memory when the program has ended.
            Target.CloseInput();
            Target.TryWaitForExit(s_patience);
        }

        await base.DisposeAsync().ConfigureAwait(false);
        if (Directory.Exists(Data))
        {
            Directory.Delete(Data, recursive: true);
        }
    }
}
