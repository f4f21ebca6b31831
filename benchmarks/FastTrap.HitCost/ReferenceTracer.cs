using System.Globalization;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>The tracer in C of <c>benchmarks/reference</c>, built with gcc -O2 when it is first asked for, and its target.</summary>
internal static class ReferenceTracer
{
    private static readonly Lazy<string> s_tracer = new(() => Build("tracer"));
    private static readonly Lazy<string> s_hot = new(() => Build("hot"));

    /// <summary>The path of the target.</summary>
    public static string Hot => s_hot.Value;

    /// <summary>Nanoseconds for each hit.</summary>
    public static double Run(string kind, int hits, HitAffinity affinity, int spin)
    {
        string where = affinity switch { HitAffinity.Same => "same", HitAffinity.Other => "other", _ => "none" };
        string[] arguments = ["-s", $"{spin}", "-a", where, "-n", $"{hits}", "--", Hot, kind, $"{hits}", "0", "wait"];
        CommandResult result = Command.Run(s_tracer.Value, arguments, TimeSpan.FromMinutes(5));
        string[] words = result.Output.Split(' ');
        return result.ExitCode == 0 && words.Length > 2 && double.TryParse(words[2], CultureInfo.InvariantCulture, out double ns)
            ? ns
            : throw new InvalidOperationException($"The reference tracer failed: {result.Output}{result.Error}");
    }

    private static string Build(string name) => TargetBuilder.Build(name, TargetVariant.Default with { Optimization = 2 });
}
