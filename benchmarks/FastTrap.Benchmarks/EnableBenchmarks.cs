using BenchmarkDotNet.Attributes;
using FastTrap.Tests.TestKit;

namespace FastTrap.Benchmarks;

/// <summary>Enabling and disabling many probes in one batch: the instructions of libc's functions in a program that waits.</summary>
public class EnableBenchmarks
{
    private TargetProcess? _target;
    private Tracer? _tracer;
    private TracedProcess? _process;
    private ProbeRequest[] _requests = [];

    /// <summary>Probes, at least.</summary>
    [Params(1, 1_000, 20_000)]
    public int Probes { get; set; }

    [GlobalSetup]
    public void Prepare() => PrepareAsync().GetAwaiter().GetResult();

    private async Task PrepareAsync()
    {
        _target = TargetProcess.StartTarget("threads", arguments: ["1"]);
        _tracer = new Tracer();
        _process = await _tracer.AttachAsync(_target.ProcessId).ConfigureAwait(false);
        ProbeOptions options = new() { Buffered = false };
        if (Probes == 1)
        {
            _requests = [new ProbeRequest("libc.so.6:malloc:entry", options)];
            return;
        }

        List<ProbeRequest> requests = [];
        int count = 0;
        IReadOnlyList<ProbeInfo> all = await _process.ListAsync("libc.so.6:[a-z]*:").ConfigureAwait(false);
        foreach (IGrouping<string, ProbeInfo> function in all.GroupBy(probe => probe.Function).TakeWhile(_ => count < Probes))
        {
            requests.Add(new ProbeRequest(new ProbeDescription(null, "libc.so.6", function.Key, null), options));
            count += function.Count();
        }

        _requests = [.. requests];
    }

    [Benchmark]
    public int EnableAndDisable() => EnableAndDisableAsync().GetAwaiter().GetResult();

    private async Task<int> EnableAndDisableAsync()
    {
        IReadOnlyList<ProbeEnabling> enablings = await _process!.EnableAsync(_requests).ConfigureAwait(false);
        int count = enablings.Sum(enabling => enabling.Probes.Count);
        foreach (ProbeEnabling enabling in enablings)
        {
            await enabling.DisposeAsync().ConfigureAwait(false);
        }

        return count;
    }

    [GlobalCleanup]
    public void End() => EndAsync().GetAwaiter().GetResult();

    private async Task EndAsync()
    {
        await _tracer!.DisposeAsync().ConfigureAwait(false);
        _target!.Dispose();
    }
}
