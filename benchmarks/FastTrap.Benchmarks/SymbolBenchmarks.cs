using BenchmarkDotNet.Attributes;
using FastTrap.Tests.TestKit;

namespace FastTrap.Benchmarks;

/// <summary>Reading the symbols of a large file, and matching patterns over symbols that have been read.</summary>
[MemoryDiagnoser]
public class SymbolBenchmarks
{
    private string _path = "";
    private TargetProcess? _target;
    private Tracer? _tracer;
    private TracedProcess? _process;

    /// <summary>The pattern of the function.</summary>
    [Params("*alloc*", "str[ln]*", "no_such_function")]
    public string Pattern { get; set; } = "*";

    [GlobalSetup]
    public void Prepare() => PrepareAsync().GetAwaiter().GetResult();

    private async Task PrepareAsync()
    {
        _path = FindLargeFile();
        _target = TargetProcess.StartTarget("threads", arguments: ["1"]);
        _tracer = new Tracer();
        _process = await _tracer.AttachAsync(_target.ProcessId).ConfigureAwait(false);
        await _process.ListAsync(Description).ConfigureAwait(false);
    }

    /// <summary>Opens, reads and matches.</summary>
    [Benchmark]
    public int LoadFileAndMatch() => Tracer.ListFile(_path, Description).Count;

    /// <summary>Matches over the modules of a process whose symbols have been read.</summary>
    [Benchmark]
    public int MatchInProcess() => _process!.ListAsync(Description).GetAwaiter().GetResult().Count;

    [GlobalCleanup]
    public void End() => EndAsync().GetAwaiter().GetResult();

    private async Task EndAsync()
    {
        await _tracer!.DisposeAsync().ConfigureAwait(false);
        _target!.Dispose();
    }

    private ProbeDescription Description => new(null, null, Pattern, "entry");

    /// <summary>libjvm.so has the most symbols of what is usually installed.</summary>
    private static string FindLargeFile()
    {
        const string Java = "/usr/lib/jvm";
        string? library = Directory.Exists(Java)
            ? Directory.EnumerateFiles(Java, "libjvm.so", SearchOption.AllDirectories).FirstOrDefault() : null;
        return library ?? "/usr/bin/python3";
    }
}
