using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;

namespace FastTrap.Benchmarks;

/// <summary>
/// What a published probe costs the program that fires it: when nobody looks, and when a semaphore is raised but no tool stands at the probe (which is all of the
/// cost that is ours; a tool's own comes on top).
/// </summary>
[MemoryDiagnoser]
public unsafe class PublishBenchmarks
{
    private readonly UsdtProvider _provider = new("benchmark");
    private readonly string _text = "GET /index.html";
    private UsdtProbe<long, int> _quiet = null!;
    private UsdtProbe<long, int> _raised = null!;
    private UsdtProbe<long, string> _raisedText = null!;
    private UsdtProbe<double, long> _raisedFloat = null!;
    private nint _function;
    private long _number;

    [GlobalSetup]
    public void Publish()
    {
        _quiet = _provider.DefineProbe<long, int>("quiet");
        _raised = _provider.DefineProbe<long, int>("raised");
        _raisedText = _provider.DefineProbe<long, string>("text");
        _raisedFloat = _provider.DefineProbe<double, long>("float");
        _provider.Publish();

        // The same library once more, for its symbols.
        nint library = NativeLibrary.Load(_provider.ImagePath!);
        foreach (string name in new[] { "raised", "text", "float" })
        {
            *(ushort*)NativeLibrary.GetExport(library, $"benchmark_{name}_semaphore") = 1;
        }

        _function = NativeLibrary.GetExport(library, "benchmark_quiet");
    }

    [GlobalCleanup]
    public void Dispose() => _provider.Dispose();

    [Benchmark(Baseline = true)]
    public long LoopOnly() => ++_number;

    [Benchmark]
    public bool IsEnabled()
    {
        ++_number;
        return _quiet.IsEnabled;
    }

    [Benchmark]
    public void FireOff() => _quiet.Fire(++_number, 2);

    [Benchmark]
    public void FireOn() => _raised.Fire(++_number, 2);

    [Benchmark]
    public void FireOnWithText() => _raisedText.Fire(++_number, _text);

    [Benchmark]
    public void FireOnWithDouble() => _raisedFloat.Fire(1.5, ++_number);

    /// <summary>The native call alone, as it is made.</summary>
    [Benchmark]
    public void Call() => ((delegate* unmanaged<ulong, ulong, ulong, ulong, ulong, ulong, void>)_function)((ulong)++_number, 2, 0, 0, 0, 0);

    /// <summary>The native call alone, without the transition that lets a garbage collection go on.</summary>
    [Benchmark]
    public void CallWithoutTransition() =>
        ((delegate* unmanaged[SuppressGCTransition]<ulong, ulong, ulong, ulong, ulong, ulong, void>)_function)((ulong)++_number, 2, 0, 0, 0, 0);
}
