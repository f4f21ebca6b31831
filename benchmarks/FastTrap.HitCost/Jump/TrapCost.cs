using System.Globalization;
using System.Runtime.InteropServices;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>
/// A hit by an in-process trap, counted in the target without a tracer, beside a SIGTRAP handler in C that does nothing: rounds of both in turn, medians and their ratio. The tracer that armed it, a process of its own, was killed with SIGKILL.
/// </summary>
internal static class TrapCost
{
    public static async Task PrintAsync(IReadOnlyDictionary<string, string> options)
    {
        int rounds = int.Parse(options.GetValueOrDefault("rounds", "21"), CultureInfo.InvariantCulture);
        int calls = int.Parse(options.GetValueOrDefault("calls", "30000"), CultureInfo.InvariantCulture);
        Console.WriteLine($"{"kind",-6} {"empty handler",13} {"in-process trap",15} {"ratio",6} {"predicted",9}   (ns of a call; medians of {rounds} rounds)");
        foreach (string kind in options.GetValueOrDefault("kinds", "push,lea,sub,rip,ret").Split(','))
        {
            await using ReferenceWay empty = new("empty handler", "none");
            await using GuardedWay guarded = new();
            await empty.StartAsync("trap", calls).ConfigureAwait(false);
            await guarded.StartAsync(kind, calls).ConfigureAwait(false);
            List<double> expected = [];
            List<double> costs = [];
            for (int round = 0; round < rounds; round++)
            {
                expected.Add(empty.Round(1));
                costs.Add(guarded.Round(1));
            }

            (double c, double ours) = (CostTable.Median(expected), CostTable.Median(costs));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{kind,-6} {c,13:0} {ours,15:0} {ours / c,6:0.00} {guarded.PredictedNs,9:0}"));
        }
    }

    /// <summary>The tracer: arms, says so, and waits to be killed.</summary>
    public static async Task ArmAsync(int processId, string description)
    {
        TracedProcess process = await new Tracer().AttachAsync(processId).ConfigureAwait(false);
        ProbeSum sum = await process.On(description).WithMechanism(ProbeMechanism.InProcessTrap).Count().EnableAsync().ConfigureAwait(false);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"predicted {sum.GetCosts()[0].PredictedNs ?? 0:0.0}"));
        Console.WriteLine($"armed {sum.Mechanisms.InProcessTrap}");
        await Task.Delay(Timeout.Infinite).ConfigureAwait(false);
    }

    /// <summary>A target that has outlived its tracer.</summary>
    internal sealed class GuardedWay() : HitWay(HitTables.Trap)
    {
        public override string CommandLine => "process.On(\"PROGRAM:FUNCTION:entry\").WithMechanism(ProbeMechanism.InProcessTrap).Count().EnableAsync(), the tracer is gone since then";

        /// <summary>What the tracer said a hit would cost.</summary>
        public double PredictedNs { get; private set; }

        protected override Task<bool> AttachAsync()
        {
            string dotnet = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", "dotnet"));
            string description = Kind switch
            {
                "ret" => "a.out:hot_ret:return",
                "usdt" => "trampolines*:::hit",
                _ => $"a.out:hot_{Kind}:entry",
            };
            using TargetProcess tracer = TargetProcess.Start(dotnet, ["exec", typeof(TrapCost).Assembly.Location, "arm", $"{Target.ProcessId}", description]);
            PredictedNs = double.Parse(tracer.ReadLineStarting("predicted ").Split(' ')[1], CultureInfo.InvariantCulture);
            string armed = tracer.ReadLineStarting("armed ");
            tracer.Signal(9);
            tracer.WaitForExit();
            return armed == "armed 1" ? Task.FromResult(true) : throw new InvalidOperationException($"{description}: {armed}");
        }
    }
}
