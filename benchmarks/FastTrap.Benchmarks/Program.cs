using BenchmarkDotNet.Running;

namespace FastTrap.Benchmarks;

/// <summary>
/// Runs the benchmarks which the command line selects, for example <c>--filter '*HitCost*'</c>. Nothing in them is asynchronous: with <c>--inProcess</c>, which saves
/// a build for each, BenchmarkDotNet does not wait for tasks.
/// </summary>
internal static class Program
{
    public static void Main(string[] arguments) => BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(arguments);
}
