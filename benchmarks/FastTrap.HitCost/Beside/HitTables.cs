using System.Globalization;

namespace FastTrap.HitCost;

/// <summary>The figures of one run and the tables that are made of them.</summary>
internal sealed class HitTables(string[] kinds, int[] threads, string[] ways)
{
    public const string Unprobed = "unprobed call";
    public const string Count = "FastTrap count";
    public const string Record = "FastTrap record";
    public const string HandCount = "C trampoline: count";
    public const string HandLane = "C trampoline: count in a lane";
    public const string HandRecord = "C trampoline: record";
    public const string Lttng = "LTTng-UST compiled in";
    public const string Uftrace = "uftrace compiled in";
    public const string GdbFalse = "gdb ftrace (condition false)";
    public const string GdbCollect = "gdb ftrace (collect)";
    public const string Kernel = "kernel uprobe";
    public const string Bpftrace = "bpftrace count";
    public const string PerfRecord = "perf record";
    public const string PerfTrace = "perf trace";
    public const string Trap = "FastTrap in-process trap";
    public const string Handler = "int3 and an empty SIGTRAP handler";

    /// <summary>What is divided by what, and the goal.</summary>
    private static readonly (string Over, string Under, string Goal)[] s_ratios =
    [
        (Count, HandCount, "at most 2"), (Count, HandLane, "at most 2"), (Record, HandRecord, "at most 1.5"),
        (Trap, Handler, "at most 1.3"), (Lttng, Count, "at least 3"), (Lttng, Record, "at least 3"), (Kernel, Count, "at least 20; worst 500"), (Kernel, Record, "-"),
        (Bpftrace, Count, "at least 20; worst 500"), (PerfRecord, Record, "-"), (PerfTrace, Record, "-"), (Uftrace, Record, "-"), (GdbFalse, Count, "-"), (GdbCollect, Record, "-"),
    ];

    private readonly Dictionary<(string Kind, int Threads, string Way), double> _ns = [];
    private readonly Dictionary<(string Kind, string Way), string> _reasons = [];
    private readonly Dictionary<string, string> _commands = [];

    public void Refuse(string kind, string way, string reason) => _reasons[(kind, way)] = reason;

    public void Take(string kind, int count, string way, double ns) => _ns[(kind, count, way)] = ns;

    public void Describe(HitWay way, string kind)
    {
        if (way.CommandLine is { } command)
        {
            _commands[way.Name] = command;
        }

        if (way is LibraryWay { Mechanisms.Jump: 0 } library)
        {
            _reasons[(kind, way.Name)] = "not by Jump: " + string.Join("; ", library.Mechanisms.Reasons.Keys);
        }
    }

    public void Print()
    {
        foreach (int count in threads)
        {
            MarkdownTable table = new([$"ns of a call, {count} thread{(count == 1 ? "" : "s")}", .. kinds]);
            foreach (string way in ways)
            {
                table.Add([way, .. kinds.Select(kind => _ns.TryGetValue((kind, count, way), out double ns) ? Number(ns) : "-")]);
            }

            table.Print();
        }

        PrintRatios(threads[0]);
        Console.WriteLine("Commands:");
        foreach ((string way, string command) in _commands)
        {
            Console.WriteLine($"- {way}: `{command}`");
        }

        Console.WriteLine();
        foreach (IGrouping<(string Way, string Reason), string> group in _reasons.GroupBy(pair => (pair.Key.Way, pair.Value), pair => pair.Key.Kind))
        {
            Console.WriteLine($"- {group.Key.Way}, {(group.Count() == kinds.Length ? "all kinds" : string.Join(", ", group))}: {group.Key.Reason}");
        }

        Console.WriteLine("- Frida, SystemTap, Dyninst, bpftime: not run (no Debian package, or none that needs no code of its own or kernel headers)\n");
    }

    private static string Number(double ns) => ns.ToString(ns < 100 ? "0.0" : "#,0", CultureInfo.InvariantCulture);

    private void PrintRatios(int count)
    {
        MarkdownTable table = new(["times, of the calls (of what a hit adds)", "goal", .. kinds]);
        foreach ((string over, string under, string goal) in s_ratios.Where(ratio => ways.Contains(ratio.Over) && ways.Contains(ratio.Under)))
        {
            table.Add([$"{over} / {under}", goal, .. kinds.Select(kind => Ratio((kind, count, over), (kind, count, under)))]);
        }

        foreach (string way in ways.Where(way => way is Count or Record or HandCount or HandRecord))
        {
            foreach (int more in threads.Where(more => more != count))
            {
                table.Add([$"{way}: {more} threads / {count}", way is Count or Record ? "1" : "-", .. kinds.Select(kind => Ratio((kind, more, way), (kind, count, way)))]);
            }
        }

        table.Print();
    }

    private string Ratio((string Kind, int Threads, string Way) over, (string Kind, int Threads, string Way) under)
    {
        if (!_ns.TryGetValue(over, out double a) || !_ns.TryGetValue(under, out double b))
        {
            return "-";
        }

        double added = (a - _ns[over with { Way = Unprobed }]) / (b - _ns[under with { Way = Unprobed }]);
        return $"{Short(a / b)} ({Short(added)})";
    }

    private static string Short(double ratio) => ratio.ToString(Math.Abs(ratio) < 10 ? "0.00" : "#,0", CultureInfo.InvariantCulture);
}
