using BenchmarkDotNet.Attributes;
using FastTrap.Tests.TestKit;

namespace FastTrap.Benchmarks;

/// <summary>What is done with each hit.</summary>
public enum HitMode
{
    /// <summary>Not probed: the cost of the call itself.</summary>
    Unprobed,

    /// <summary>An entry probe that only counts.</summary>
    Count,

    /// <summary>An entry probe whose predicate is false.</summary>
    PredicateFalse,

    /// <summary>An entry probe with a handler which reads an argument.</summary>
    Handler,

    /// <summary>A return probe that only counts.</summary>
    Return,
}

/// <summary>Time of one call of a small function, probed; compare with <c>benchmarks/reference</c>.</summary>
public class HitCostBenchmarks
{
    private const int Calls = 10_000;
    private TargetProcess? _target;
    private Tracer? _tracer;
    private ulong _sum;

    /// <summary>How the function begins: emulated (push, sub), or run out of line (rip).</summary>
    [Params("push", "sub", "rip")]
    public string Beginning { get; set; } = "push";

    [ParamsAllValues]
    public HitMode Mode { get; set; }

    [Params(ControlThreadAffinity.Inherit, ControlThreadAffinity.FollowTarget)]
    public ControlThreadAffinity Affinity { get; set; }

    [GlobalSetup]
    public void Prepare() => PrepareAsync().GetAwaiter().GetResult();

    private async Task PrepareAsync()
    {
        _target = TargetProcess.Start(TargetBuilder.Build("hot"), [Beginning, $"{Calls}", "0", "lines"]);
        _target.ReadLineStarting("ready ");
        if (Mode == HitMode.Unprobed)
        {
            return;
        }

        _tracer = new Tracer(new TracerOptions { Affinity = Affinity });
        TracedProcess process = await _tracer.AttachAsync(_target.ProcessId).ConfigureAwait(false);
        ProbeOptions options = Mode switch
        {
            HitMode.PredicateFalse => new ProbeOptions { Buffered = false, Predicate = static (in ProbeContext _) => false },
            HitMode.Handler => new ProbeOptions { OnHit = (in ProbeContext context) => _sum += context.GetArgument(0) },
            _ => new ProbeOptions { Buffered = false },
        };
        string name = Mode == HitMode.Return ? "return" : "entry";
        await process.EnableAsync($"a.out:hot_{Beginning}:{name}", options).ConfigureAwait(false);
    }

    [Benchmark(OperationsPerInvoke = Calls)]
    public string Call()
    {
        _target!.SendLine("go");
        return _target.ReadLineStarting("");
    }

    [GlobalCleanup]
    public void End() => EndAsync().GetAwaiter().GetResult();

    private async Task EndAsync()
    {
        if (_tracer is not null)
        {
            await _tracer.DisposeAsync().ConfigureAwait(false);
        }

        _target?.Dispose();
    }
}
