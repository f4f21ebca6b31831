using System.Globalization;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>perf on a uprobe event with two arguments, which is made in tracefs as <c>perf probe</c> makes it.</summary>
/// <param name="name">How the way is called.</param>
/// <param name="isTrace">Whether <c>perf trace</c> formats each hit, or <c>perf record</c> keeps it.</param>
internal sealed class PerfWay(string name, bool isTrace) : UprobeWay(name)
{
    private const string Events = "/sys/kernel/tracing/uprobe_events";
    private const int SIGINT = 2;
    private const int MostLooks = 50;

    /// <summary>Bytes of a file that has the rounds in it, not only what stands at its beginning.</summary>
    private const long LeastOutput = 20_000;

    private static int s_made;

    private readonly string _event = string.Create(CultureInfo.InvariantCulture, $"fasttrap_{Environment.ProcessId}/hit{Interlocked.Increment(ref s_made)}");
    private TargetProcess? _perf;
    private bool _isMade;

    public override string CommandLine => isTrace
        ? "perf probe -x PROGRAM 'FUNCTION %di %si'; perf trace -a -e EVENT -o FILE (with -p it does not see later threads)"
        : "perf probe -x PROGRAM 'FUNCTION %di %si'; perf record -p PID -e EVENT -o FILE";

    private string Output => ProgramPath + ".perf";

    protected override string? Missing() =>
        Command.Find("perf") is null ? "missing: install linux-perf" : Posix.geteuid() != 0 ? "needs root" : File.Exists(Events) ? null : $"no {Events}: mount tracefs";

    protected override async Task<bool> AttachAsync()
    {
        string definition = IsReturn ? "v=$retval" : "a=%di b=%si";
        string line = $"{(IsReturn ? 'r' : 'p')}:{_event} {ProgramPath}:0x{FindOffset():x} {definition}\n";
        await File.AppendAllTextAsync(Events, line).ConfigureAwait(false);
        _isMade = true;
        byte[] before = ReadText();
        List<string> arguments = isTrace ? ["trace", "-a"] : ["record", "-q", "-p", $"{Target.ProcessId}"];
        arguments.AddRange(["-e", _event.Replace('/', ':'), "-o", Output]);
        _perf = TargetProcess.Start(Command.Find("perf")!, arguments);
        WaitForChange(before, _perf);
        return true;
    }

    /// <summary>What it still has to write would take time from the others' rounds.</summary>
    protected override void Settle()
    {
        double before = -1;
        double now = ProcessTimes.ReadCpuTicks(_perf!.ProcessId);
        for (int look = 0; now != before && look < MostLooks; look++)
        {
            before = now;
            _perf.TryWaitForExit(TimeSpan.FromMilliseconds(20));
            now = ProcessTimes.ReadCpuTicks(_perf.ProcessId);
        }
    }

    public override void Verify()
    {
        if (new FileInfo(Output) is not { Exists: true, Length: > LeastOutput })
        {
            throw new InvalidOperationException($"{Name}, {Kind}: saw nothing.");
        }
    }

    public override async ValueTask DisposeAsync()
    {
        if (_perf is not null)
        {
            _perf.Signal(SIGINT);
            _perf.TryWaitForExit(TimeSpan.FromSeconds(10));
            _perf.Dispose();
        }

        if (_isMade)
        {
            await File.AppendAllTextAsync(Events, $"-:{_event}\n").ConfigureAwait(false);
        }

        await base.DisposeAsync().ConfigureAwait(false);
        File.Delete(Output);
    }
}
