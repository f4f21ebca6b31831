using System.Globalization;

namespace FastTrap.HitCost;

/// <summary>
/// The fast mechanisms beside trampolines written by hand, and beside peers where they are installed: for each kind of function, all ways in turn, round by round. Prints the medians of a call in nanoseconds, and two ratios to the trampoline written by hand: of the calls, and of what the
/// hit adds to an unprobed one, which is less than a nanosecond for a count and so mostly noise. A count has two references: in a variable that was compiled into the program for each thread, and in a table, as code from outside has to do it.
/// </summary>
internal static class JumpCost
{
    private const string AllKinds = "endbr,push,nop5,lea,sub,rip,jcc,usdt,ret,trap";

    private static readonly (string Name, Func<HitWay> Make)[] s_ways =
    [
        ("unprobed", () => new ReferenceWay("unprobed", "none")),
        ("hand count", () => new ReferenceWay("hand count", "count")),
        ("hand lane", () => new ReferenceWay("hand lane", "lane")),
        ("hand record", () => new ReferenceWay("hand record", "record")),
        ("count", () => new LibraryWay("count", isRecord: false)),
        ("record", () => new LibraryWay("record", isRecord: true)),
        ("kernel", () => new KernelWay()),
        ("bpftrace", () => new BpftraceWay()),
    ];

    public static async Task PrintAsync(IReadOnlyDictionary<string, string> options)
    {
        int rounds = int.Parse(options.GetValueOrDefault("rounds", "11"), CultureInfo.InvariantCulture);
        int calls = int.Parse(options.GetValueOrDefault("calls", "30000"), CultureInfo.InvariantCulture);
        string[] wanted = options.GetValueOrDefault("ways", string.Join(',', s_ways.Select(w => w.Name))).Split(',');
        int[] threads = [.. options.GetValueOrDefault("threads", "1,2").Split(',').Select(n => int.Parse(n, CultureInfo.InvariantCulture))];
        (string Name, Func<HitWay> Make)[] ways = [.. s_ways.Where(w => w.Name == "unprobed" || wanted.Contains(w.Name))];
        Console.WriteLine(
            $"{"kind",-6} {"threads",7} {string.Join(' ', ways.Select(w => $"{w.Name,11}"))} {"count:hand",15} {"count:lane",15} {"record:hand",15}   (ns of a call; medians of {rounds} rounds of at most {calls} calls; ratio of the calls; of what a hit adds)");
        foreach (string kind in options.GetValueOrDefault("kinds", AllKinds).Split(','))
        {
            await PrintKindAsync(kind, ways, threads, rounds, calls).ConfigureAwait(false);
        }
    }

    private static async Task PrintKindAsync(string kind, (string Name, Func<HitWay> Make)[] ways, int[] threads, int rounds, int calls)
    {
        HitWay[] all = [.. ways.Select(w => w.Make())];
        try
        {
            bool[] isStarted = new bool[all.Length];
            for (int i = 0; i < all.Length; i++)
            {
                isStarted[i] = await all[i].StartAsync(kind, calls).ConfigureAwait(false);
            }

            foreach (int count in threads)
            {
                List<double>[] costs = [.. all.Select(_ => new List<double>())];

                // The first is for caches and for the compiler, and not counted.
                for (int round = -1; round < rounds; round++)
                {
                    for (int i = 0; i < all.Length; i++)
                    {
                        double ns = isStarted[i] ? all[i].Round(count) : 0;
                        if (round >= 0)
                        {
                            costs[i].Add(ns);
                        }
                    }
                }

                Print(kind, count, ways, isStarted, [.. costs.Select(CostTable.Median)]);
            }
        }
        finally
        {
            foreach (HitWay way in all)
            {
                await way.DisposeAsync().ConfigureAwait(false);
            }
        }
    }

    private static void Print(string kind, int threads, (string Name, Func<HitWay> Make)[] ways, bool[] isStarted, double[] medians)
    {
        string Call(int way) => isStarted[way] ? medians[way].ToString("0.0", CultureInfo.InvariantCulture) : "-";
        string Ratio(string way, string reference)
        {
            int over = Array.FindIndex(ways, w => w.Name == way);
            int under = Array.FindIndex(ways, w => w.Name == reference);
            return over < 0 || under < 0 || !isStarted[over] || !isStarted[under]
                ? "-"
                : string.Create(CultureInfo.InvariantCulture, $"{medians[over] / medians[under]:0.00}; {(medians[over] - medians[0]) / (medians[under] - medians[0]):0.00}");
        }

        Console.WriteLine(
            $"{kind,-6} {threads,7} {string.Join(' ', Enumerable.Range(0, ways.Length).Select(i => $"{Call(i),11}"))} {Ratio("count", "hand count"),15} {Ratio("count", "hand lane"),15} {Ratio("record", "hand record"),15}");
    }
}
