using System.Diagnostics;
using System.Globalization;
using System.Text;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>
/// Enabling and disabling many tracepoints, one detach from all of them, and the memory they take: a generated library-sized program, entry probes on all its functions.
/// </summary>
internal static class EnableCost
{
    public static async Task PrintAsync(IReadOnlyDictionary<string, string> options)
    {
        int rounds = int.Parse(options.GetValueOrDefault("rounds", "5"), CultureInfo.InvariantCulture);
        int[] counts = [.. options.GetValueOrDefault("counts", "1,1000,20000").Split(',').Select(n => int.Parse(n, CultureInfo.InvariantCulture))];
        string name = options.GetValueOrDefault("name", "entry");
        Console.WriteLine($"{"functions",9} {"tracepoints",11} {"match ms",9} {"enable ms",9} {"per s",9} {"disable ms",10} {"detach ms",9} {"bytes each",10}   (medians of {rounds} rounds, the first left out; enable includes match)");
        foreach (int count in counts)
        {
            string program = Build(count);
            List<double[]> results = [];
            for (int round = 0; round <= rounds; round++)
            {
                results.Add(await RunAsync(program, name).ConfigureAwait(false));
            }

            double[] median = [.. Enumerable.Range(0, results[0].Length).Select(i => CostTable.Median([.. results.Skip(1).Select(r => r[i])]))];
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{count,9} {median[0],11:0} {median[1],9:0.0} {median[2],9:0.0} {median[0] / median[2] * 1000,9:0} {median[3],10:0.0} {median[4],9:0.0} {median[5],10:0}"));
        }
    }

    private static async Task<double[]> RunAsync(string program, string name)
    {
        using TargetProcess target = TargetProcess.Start(program);
        target.ReadLineStarting("ready ");
        Tracer tracer = new(new TracerOptions());
        TracedProcess process = await tracer.AttachAsync(target.ProcessId).ConfigureAwait(false);
        ProbeDescription description = new(null, "a.out", "many_*", name);
        ProbeOptions options = new() { Buffered = false };
        long start = Stopwatch.GetTimestamp();
        _ = await process.ListAsync(description).ConfigureAwait(false);
        double match = Since(ref start);

        // A probe that was enabled once stays registered, so the first time is what counts. Both looks are taken from a stack of their own: what goes on directly stands
        // on that of the call which has just completed, and keeps what that needed.
        await Task.Yield();
        long before = GC.GetTotalMemory(forceFullCollection: true);
        start = Stopwatch.GetTimestamp();
        ProbeEnabling enabling = await process.EnableAsync(description, options).ConfigureAwait(false);
        double enable = Since(ref start);
        await Task.Yield();
        long bytes = GC.GetTotalMemory(forceFullCollection: true) - before;
        int tracepoints = enabling.Probes.Sum(p => p.SiteCount);
        start = Stopwatch.GetTimestamp();
        await enabling.DisposeAsync().ConfigureAwait(false);
        double disable = Since(ref start);

        enabling = await process.EnableAsync(description, options).ConfigureAwait(false);
        start = Stopwatch.GetTimestamp();
        await tracer.DisposeAsync().ConfigureAwait(false);
        double detach = Since(ref start);
        GC.KeepAlive(enabling);
        return [tracepoints, match, enable, disable, detach, (double)bytes / tracepoints];
    }

    private static double Since(ref long start)
    {
        long now = Stopwatch.GetTimestamp();
        double elapsed = Stopwatch.GetElapsedTime(start, now).TotalMilliseconds;
        start = now;
        return elapsed;
    }

    /// <summary>A program with so many functions, each at a place of its own.</summary>
    private static string Build(int count)
    {
        string directory = Path.Combine(Path.GetTempPath(), $"fasttrap-enable-{Posix.geteuid()}");
        Directory.CreateDirectory(directory);
        string program = Path.Combine(directory, $"many{count}", "a.out");
        if (File.Exists(program))
        {
            return program;
        }

        Directory.CreateDirectory(Path.GetDirectoryName(program)!);
        StringBuilder source = new("#include <stdio.h>\n#include <unistd.h>\n");
        for (int i = 0; i < count; i++)
        {
            source.Append(CultureInfo.InvariantCulture, $"long many_{i}(long *a, long n) {{ long s = {i}; for (long i = 0; i < n; i++) s = s * 31 + a[i] + {i % 97}; return s; }}\n");
        }

        source.Append("int main(void) { char line[9]; printf(\"ready %d\\n\", getpid()); fflush(stdout); return !fgets(line, sizeof line, stdin); }\n");
        string file = Path.Combine(directory, $"many{count}.c");
        File.WriteAllText(file, source.ToString());
        CommandResult built = Command.Run(Command.Find("gcc")!, ["-O1", "-o", program + ".new", file], TimeSpan.FromMinutes(5));
        if (built.ExitCode != 0)
        {
            throw new InvalidOperationException(built.Error);
        }

        File.Move(program + ".new", program, overwrite: true);
        return program;
    }
}
