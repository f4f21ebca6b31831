using System.Diagnostics;
using System.Globalization;

namespace FastTrap.HitCost;

/// <summary>
/// Enabling and disabling counts of whole libraries in a running process, which keeps its CPUs busy or not. The first round is that of a program that has just begun: the
/// runtime compiles the library's code, and symbols are read.
/// </summary>
internal static class ModuleCost
{
    public static async Task PrintAsync(IReadOnlyDictionary<string, string> options)
    {
        if (!options.TryGetValue("pid", out string? pid))
        {
            await Console.Error.WriteLineAsync("module: say which process with --pid.").ConfigureAwait(false);
            return;
        }

        int rounds = Math.Max(2, int.Parse(options.GetValueOrDefault("rounds", "6"), CultureInfo.InvariantCulture));
        string description = options.GetValueOrDefault("probe", "libjvm.so:*:entry");
        Tracer tracer = new(new TracerOptions());
        await using (tracer.ConfigureAwait(false))
        {
            TracedProcess process = await tracer.AttachAsync(int.Parse(pid, CultureInfo.InvariantCulture)).ConfigureAwait(false);
            List<double[]> results = [];
            for (int round = 0; round < rounds; round++)
            {
                results.Add(await RunAsync(process, description, round).ConfigureAwait(false));
            }

            double[] median = [.. Enumerable.Range(0, 3).Select(i => CostTable.Median([.. results.Skip(1).Select(r => r[i])]))];
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"medians without the first: enabled in {median[0]:0} ms, disabled in {median[1]:0} ms, longest stop {median[2]:0.0} ms"));
        }
    }

    private static async Task<double[]> RunAsync(TracedProcess process, string description, int round)
    {
        long start = Stopwatch.GetTimestamp();
        ProbeSum sum = await process.On(description).Count().EnableAsync().ConfigureAwait(false);
        double enable = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        ProbeMechanisms by = sum.Mechanisms;
        start = Stopwatch.GetTimestamp();
        await sum.DisposeAsync().ConfigureAwait(false);
        double disable = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        ProbeStall stall = sum.Stall;
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"round {round}: {by.Jump} by jump, {by.InProcessTrap} by in-process trap, {by.Breakpoint} by breakpoint; enabled in {enable:0} ms, disabled in {disable:0} ms, {stall.Stops} stops of {stall.Total.TotalMilliseconds:0.0} ms together, the longest of {stall.Longest.TotalMilliseconds:0.00} ms; {sum.Count} hits"));
        return [enable, disable, stall.Longest.TotalMilliseconds];
    }
}
