using System.Diagnostics;
using System.Globalization;

namespace FastTrap.HitCost;

/// <summary>Rounds of an application under each watch in turn, and what the watches took from it.</summary>
internal static class WatchTable
{
    /// <param name="watches">The first is nobody's.</param>
    /// <param name="rounds">How often each has its turn.</param>
    /// <param name="work">What the application does while it is watched: units of work in a second.</param>
    /// <param name="unit">What a unit is called.</param>
    /// <param name="interruption">Ends it early.</param>
    public static async Task PrintAsync(IReadOnlyList<Watch> watches, int rounds, Func<double> work, string unit, Interruption interruption)
    {
        Dictionary<Watch, List<double>> rates = watches.Where(w => w.Missing is null).ToDictionary(w => w, _ => new List<double>());
        Dictionary<Watch, List<double>> shares = rates.Keys.ToDictionary(w => w, _ => new List<double>());
        string load = ProcessTimes.ReadLoad();

        // The first is for caches and compilers, and not counted.
        for (int round = -1; round < rounds; round++)
        {
            foreach ((Watch watch, List<double> rate) in rates)
            {
                interruption.Check();
                long seen = 0;
                double perSecond = 0;
                double share = 0;
                try
                {
                    await watch.BeginAsync().ConfigureAwait(false);
                    long start = Stopwatch.GetTimestamp();
                    double cpu = ProcessTimes.ReadCpuTicks(watch.ProcessId);
                    perSecond = work();
                    share = (ProcessTimes.ReadCpuTicks(watch.ProcessId) - cpu) / ProcessTimes.TicksPerSecond / Stopwatch.GetElapsedTime(start).TotalSeconds;
                }
                finally
                {
                    seen = await watch.EndAsync().ConfigureAwait(false);
                }

                if (seen == 0 && watch is LibraryWatch)
                {
                    throw new InvalidOperationException($"{watch.Name}: nothing was hit.");
                }

                if (seen == 0 && watch is BpftraceWatch)
                {
                    await Console.Error.WriteLineAsync($"{watch.Name}: it saw nothing in this round, which does not count.").ConfigureAwait(false);
                }
                else if (round >= 0)
                {
                    rate.Add(perSecond);
                    shares[watch].Add(share);
                }
            }

            await Console.Error.WriteLineAsync($"round {round + 1} of {rounds}").ConfigureAwait(false);
        }

        Console.WriteLine(
            $"Linux {Environment.OSVersion.Version}, {Environment.ProcessorCount} CPUs, load {load} before and {ProcessTimes.ReadLoad()} after; medians of {rounds} rounds, all in turn; in brackets the least and the greatest.\n");
        MarkdownTable table = new("watched by", $"{unit} a second", "loss", "watcher's CPU", "mechanism");
        double alone = CostTable.Median(rates[watches[0]]);
        foreach (Watch watch in watches)
        {
            if (watch.Missing is { } reason)
            {
                table.Add(watch.Name, "-", "-", "-", reason);
                continue;
            }

            if (rates[watch].Count == 0)
            {
                table.Add(watch.Name, "-", "-", "-", "it saw nothing");
                continue;
            }

            double rate = CostTable.Median(rates[watch]);
            table.Add(
                watch.Name, string.Create(CultureInfo.InvariantCulture, $"{rate:#,0} ({rates[watch].Min():#,0} to {rates[watch].Max():#,0})"),
                watch is NoWatch ? "-" : ((alone - rate) / alone).ToString("0.0 %", CultureInfo.InvariantCulture),
                watch is NoWatch ? "-" : CostTable.Median(shares[watch]).ToString("0.0 %", CultureInfo.InvariantCulture), watch.Mechanism);
        }

        table.Print();
        foreach (Watch watch in watches.Where(w => w.CommandLine.Length != 0))
        {
            Console.WriteLine($"- {watch.Name}: `{watch.CommandLine}`");
        }
    }
}
