using System.Globalization;

namespace FastTrap.HitCost;

/// <summary>
/// This library beside all that count or record the same hits and are installed here, in one run: for each kind of function all candidates in turn, round by round, with one thread and with two. Prints medians, ratios beside their goals, the
/// candidates' commands, and what could not be had, with the reason.
/// </summary>
internal static class BesideCost
{
    private const string AllKinds = "endbr,push,nop5,lea,sub,rip,jcc,usdt,ret";

    private static readonly (string Name, Func<HitWay> Make)[] s_ways =
    [
        (HitTables.Unprobed, () => new ReferenceWay(HitTables.Unprobed, "none")),
        (HitTables.Count, () => new LibraryWay(HitTables.Count, isRecord: false)),
        (HitTables.Record, () => new LibraryWay(HitTables.Record, isRecord: true)),
        (HitTables.HandCount, () => new ReferenceWay(HitTables.HandCount, "count")),
        (HitTables.HandLane, () => new ReferenceWay(HitTables.HandLane, "lane")),
        (HitTables.HandRecord, () => new ReferenceWay(HitTables.HandRecord, "record")),
        (HitTables.Lttng, () => new LttngWay()),
        (HitTables.Uftrace, () => new UftraceWay()),
        (HitTables.GdbFalse, () => new GdbWay(HitTables.GdbFalse, "if $rdi < -1", "collect $rdi, $rsi")),
        (HitTables.GdbCollect, () => new GdbWay(HitTables.GdbCollect, "", "collect $rdi, $rsi")),
        (HitTables.Kernel, () => new KernelWay()),
        (HitTables.Bpftrace, () => new BpftraceWay()),
        (HitTables.PerfRecord, () => new PerfWay(HitTables.PerfRecord, isTrace: false)),
        (HitTables.PerfTrace, () => new PerfWay(HitTables.PerfTrace, isTrace: true)),
        (HitTables.Trap, () => new TrapCost.GuardedWay()),
        (HitTables.Handler, () => new ReferenceWay(HitTables.Handler, "none", "trap")),
    ];

    public static async Task PrintAsync(IReadOnlyDictionary<string, string> options)
    {
        int rounds = int.Parse(options.GetValueOrDefault("rounds", "9"), CultureInfo.InvariantCulture);
        int calls = int.Parse(options.GetValueOrDefault("calls", "30000"), CultureInfo.InvariantCulture);
        int[] threads = [.. options.GetValueOrDefault("threads", "1,2").Split(',').Select(n => int.Parse(n, CultureInfo.InvariantCulture))];
        string[] kinds = options.GetValueOrDefault("kinds", AllKinds).Split(',');
        string[] wanted = options.GetValueOrDefault("ways", string.Join(',', s_ways.Select(w => w.Name))).Split(',');
        (string Name, Func<HitWay> Make)[] ways = [.. s_ways.Where(w => w.Name == HitTables.Unprobed || wanted.Contains(w.Name))];
        using Interruption interruption = new();
        HitTables tables = new(kinds, threads, [.. ways.Select(w => w.Name)]);
        string load = ProcessTimes.ReadLoad();
        foreach (string kind in kinds)
        {
            await Console.Error.WriteLineAsync(kind).ConfigureAwait(false);
            await MeasureAsync(kind, ways, threads, rounds, calls, tables, interruption).ConfigureAwait(false);
        }

        Console.WriteLine(
            $"Linux {Environment.OSVersion.Version}, {Environment.ProcessorCount} CPUs, load {load} before and {ProcessTimes.ReadLoad()} after; medians of {rounds} rounds of at most {calls} calls, all candidates in turn.\n");
        tables.Print();
        ReaderCost.Print(rounds);
    }

    private static async Task MeasureAsync(
        string kind, (string Name, Func<HitWay> Make)[] ways, int[] threads, int rounds, int calls, HitTables tables, Interruption interruption)
    {
        HitWay[] all = [.. ways.Select(w => w.Make())];
        try
        {
            List<HitWay> started = [];
            foreach (HitWay way in all)
            {
                interruption.Check();
                if (await TryStartAsync(way, kind, calls).ConfigureAwait(false) is { } reason)
                {
                    tables.Refuse(kind, way.Name, reason);
                }
                else
                {
                    started.Add(way);
                    tables.Describe(way, kind);
                }
            }

            foreach (int count in threads)
            {
                Dictionary<string, List<double>> costs = started.ToDictionary(way => way.Name, _ => new List<double>());

                // The first is for caches and for the compiler, and not counted.
                for (int round = -1; round < rounds; round++)
                {
                    foreach (HitWay way in started.ToArray())
                    {
                        interruption.Check();
                        if (TryRound(way, count, out double ns) is { } fault)
                        {
                            tables.Refuse(kind, way.Name, fault);
                            started.Remove(way);
                            costs.Remove(way.Name);
                        }
                        else if (round >= 0)
                        {
                            costs[way.Name].Add(ns);
                        }
                    }
                }

                foreach ((string name, List<double> ns) in costs)
                {
                    tables.Take(kind, count, name, CostTable.Median(ns));
                }
            }

            started.ForEach(way => way.Verify());
        }
        finally
        {
            foreach (HitWay way in all)
            {
                await way.DisposeAsync().ConfigureAwait(false);
            }
        }
    }

    /// <summary>Null, or why it cannot: a peer that fails is a row which says so, and the others go on.</summary>
    private static async Task<string?> TryStartAsync(HitWay way, string kind, int calls)
    {
        try
        {
            return await way.StartAsync(kind, calls).ConfigureAwait(false) ? null : way.Refusal ?? "not for this kind";
        }
        catch (Exception exception) when (IsPeersFault(way, exception))
        {
            return Describe(exception);
        }
    }

    private static string? TryRound(HitWay way, int threads, out double ns)
    {
        try
        {
            ns = way.Round(threads);
            return null;
        }
        catch (Exception exception) when (IsPeersFault(way, exception))
        {
            ns = 0;
            return Describe(exception);
        }
    }

    private static bool IsPeersFault(HitWay way, Exception exception) =>
        way is not LibraryWay and not ReferenceWay && exception is InvalidOperationException or IOException or TimeoutException;

    private static string Describe(Exception exception)
    {
        Console.Error.WriteLine(exception.Message);
        return "failed: " + exception.Message.Split('\n')[0];
    }
}
