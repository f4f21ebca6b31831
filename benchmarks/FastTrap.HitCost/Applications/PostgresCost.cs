using System.Globalization;

namespace FastTrap.HitCost;

/// <summary>What a look at each query takes from a PostgreSQL server that answers as many as it can: by this library and by bpftrace, in turn.</summary>
internal static class PostgresCost
{
    private const string Probe = "postgresql*:::query-start";
    private const int TextLength = 64;

    public static async Task PrintAsync(IReadOnlyDictionary<string, string> options)
    {
        int rounds = int.Parse(options.GetValueOrDefault("rounds", "5"), CultureInfo.InvariantCulture);
        int seconds = int.Parse(options.GetValueOrDefault("seconds", "2"), CultureInfo.InvariantCulture);
        int clients = int.Parse(options.GetValueOrDefault("clients", "4"), CultureInfo.InvariantCulture);
        if (PostgresBench.Missing is { } reason)
        {
            Console.WriteLine(reason);
            return;
        }

        using Interruption interruption = new();
        const int MostSecondsOfATurn = 15;
        using PostgresBench bench = new(clients, (rounds + 1) * 7 * (seconds + MostSecondsOfATurn));
        await using Tracer tracer = new();
        LibraryWatch records = new(
            "FastTrap, a record of each", $"process.On(\"{Probe}\").Record(c => c.Arg(0)), for each server process", tracer, () => bench.Backends, EnableRecordsAsync);
        (int, ulong) Place() => (bench.Backends[0], records.Address);
        string usdt = $"usdt:{bench.Executable}:postgresql:query__start";
        string output = Path.Combine(Path.GetTempPath(), $"pgbench-{Environment.ProcessId}.bpftrace");
        Watch[] watches =
        [
            new NoWatch(),
            new LibraryWatch(
                "FastTrap, count", $"process.On(\"{Probe}\").Count(), for each server process", tracer, () => bench.Backends,
                async process => (await process.On(Probe).Count().EnableAsync().ConfigureAwait(false), Task.CompletedTask)),
            records,
            new LibraryWatch(
                "FastTrap, a record with its text", $"process.On(\"{Probe}\").Record(c => c.ReadString(c.Arg(0), {TextLength})), for each server process", tracer, () => bench.Backends,
                EnableTextsAsync),
            new BpftraceWatch("bpftrace, count by thread", usdt, "@[tid] = count();", output, Place),
            new BpftraceWatch("bpftrace, a line of each", usdt, "printf(\"%lx\\n\", arg0);", output, Place),
            new BpftraceWatch("bpftrace, a line with its text", usdt, "printf(\"%s\\n\", str(arg0));", output, Place),
        ];
        Console.WriteLine($"pgbench -n -S -M simple -c {clients} -j 1, its own server, {seconds} s a round.");
        string[] wanted = options.GetValueOrDefault("ways", "").Split(',', StringSplitOptions.RemoveEmptyEntries);
        watches = [.. watches.Where(w => w is NoWatch || wanted.Length == 0 || wanted.Any(w.Name.Contains))];
        await WatchTable.PrintAsync(watches, rounds, () => bench.Measure(seconds), "transactions", interruption).ConfigureAwait(false);
    }

    private static async Task<(ProbeResult, Task)> EnableRecordsAsync(TracedProcess process)
    {
        ProbeRecords<ulong> records = await process.On(Probe).Record(c => c.Arg(0)).EnableAsync().ConfigureAwait(false);
        return (records, DrainAsync(records));
    }

    private static async Task<(ProbeResult, Task)> EnableTextsAsync(TracedProcess process)
    {
        ProbeRecords<string> records = await process.On(Probe).Record(c => c.ReadString(c.Arg(0), TextLength), 1 << 13).EnableAsync().ConfigureAwait(false);
        return (records, DrainAsync(records));
    }

    private static Task DrainAsync<T>(ProbeRecords<T> records) => Task.Run(async () =>
    {
        await foreach (ProbeRecord<T> record in records.ReadAllAsync().ConfigureAwait(false))
        {
            GC.KeepAlive(record.Value);
        }
    });
}
