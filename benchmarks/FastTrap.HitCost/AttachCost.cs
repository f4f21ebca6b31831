using System.Diagnostics;
using System.Globalization;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>Attaching to a process of many threads, and detaching from it.</summary>
internal static class AttachCost
{
    public static async Task PrintAsync(IReadOnlyDictionary<string, string> options)
    {
        int rounds = int.Parse(options.GetValueOrDefault("rounds", "7"), CultureInfo.InvariantCulture);
        Console.WriteLine($"{"threads",7} {"attach ms",9} {"enable one ms",13} {"detach ms",9}   (medians of {rounds} rounds, the first left out; all threads asleep)");
        foreach (int threads in options.GetValueOrDefault("threads", "10,200,2000").Split(',').Select(n => int.Parse(n, CultureInfo.InvariantCulture)))
        {
            using TargetProcess target = TargetProcess.StartTarget("threads", arguments: [$"{threads}"]);
            List<double[]> results = [];
            for (int round = 0; round <= rounds; round++)
            {
                await using Tracer tracer = new();
                long start = Stopwatch.GetTimestamp();
                TracedProcess process = await tracer.AttachAsync(target.ProcessId).ConfigureAwait(false);
                double attach = Since(ref start);
                await process.EnableAsync("a.out:hot:entry", new ProbeOptions { Buffered = false }).ConfigureAwait(false);
                double enable = Since(ref start);
                await process.DisposeAsync().ConfigureAwait(false);
                results.Add([attach, enable, Since(ref start)]);
            }

            double[] median = [.. Enumerable.Range(0, 3).Select(i => CostTable.Median([.. results.Skip(1).Select(r => r[i])]))];
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{threads,7} {median[0],9:0.0} {median[1],13:0.0} {median[2],9:0.0}"));
        }
    }

    private static double Since(ref long start)
    {
        long now = Stopwatch.GetTimestamp();
        double milliseconds = Stopwatch.GetElapsedTime(start, now).TotalMilliseconds;
        start = now;
        return milliseconds;
    }
}
