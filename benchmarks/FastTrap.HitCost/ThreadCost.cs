using System.Diagnostics;
using System.Globalization;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>Several threads on one probe: time for each hit over all of them, by where the control thread runs.</summary>
internal static class ThreadCost
{
    public static async Task PrintAsync(IReadOnlyDictionary<string, string> options)
    {
        int rounds = int.Parse(options.GetValueOrDefault("rounds", "7"), CultureInfo.InvariantCulture);
        int hits = int.Parse(options.GetValueOrDefault("hits", "8000"), CultureInfo.InvariantCulture);
        (ControlThreadAffinity Affinity, int Spin)[] ways =
            [(ControlThreadAffinity.Inherit, 0), (ControlThreadAffinity.Inherit, 50), (ControlThreadAffinity.FollowTarget, 0), (ControlThreadAffinity.FollowTarget, 50)];
        Console.WriteLine($"{"threads",7} {string.Join(' ', ways.Select(way => $"{way.Affinity + "/" + way.Spin,22}"))}   (ns per hit: median; least; of {rounds} rounds of {hits})");
        foreach (int threads in options.GetValueOrDefault("threads", "1,2,4,8").Split(',').Select(n => int.Parse(n, CultureInfo.InvariantCulture)))
        {
            List<double>[] costs = [.. ways.Select(_ => new List<double>())];
            List<(TargetProcess Target, Tracer Tracer)> running = [];
            foreach ((ControlThreadAffinity affinity, int spin) in ways)
            {
                TargetProcess target = TargetProcess.StartTarget("threads", arguments: [$"{threads}"]);
                Tracer tracer = new(new TracerOptions { Affinity = affinity, SpinMicroseconds = spin });
                running.Add((target, tracer));
                TracedProcess process = await tracer.AttachAsync(target.ProcessId).ConfigureAwait(false);
                await process.EnableAsync("threads:hot:entry", new ProbeOptions { Buffered = false }).ConfigureAwait(false);
            }

            for (int round = -1; round < rounds; round++)
            {
                for (int i = 0; i < ways.Length; i++)
                {
                    long start = Stopwatch.GetTimestamp();
                    long done = running[i].Target.SendAndReadCount($"go {hits / threads}", "hot");
                    double ns = Stopwatch.GetElapsedTime(start).TotalNanoseconds / done;
                    if (round >= 0)
                    {
                        costs[i].Add(ns);
                    }
                }
            }

            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{threads,7} {string.Join(' ', costs.Select(c => $"{$"{CostTable.Median(c):0}; {c.Min():0}",22}"))}"));
            foreach ((TargetProcess target, Tracer tracer) in running)
            {
                await tracer.DisposeAsync().ConfigureAwait(false);
                target.Dispose();
            }
        }
    }
}
