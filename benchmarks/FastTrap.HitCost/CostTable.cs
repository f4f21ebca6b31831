using System.Globalization;

namespace FastTrap.HitCost;

/// <summary>A table of costs: rounds of the library and of the loop in C in turn, medians, and the ratio of the medians.</summary>
internal static class CostTable
{
    /// <summary>What the reference polls for, as its own default.</summary>
    private const int ReferenceSpin = 50;

    public static async Task PrintAsync(IReadOnlyDictionary<string, string> options)
    {
        int rounds = int.Parse(options.GetValueOrDefault("rounds", "7"), CultureInfo.InvariantCulture);
        int hits = int.Parse(options.GetValueOrDefault("hits", "20000"), CultureInfo.InvariantCulture);
        string[] kinds = options.GetValueOrDefault("kinds", "push,endbr,nop5,sub,mov").Split(',');
        HitAffinity[] affinities = [.. options.GetValueOrDefault("affinities", "same").Split(',').Select(Parse<HitAffinity>)];
        HitVariant[] variants = [.. options.GetValueOrDefault("variants", "entry").Split(',').Select(Parse<HitVariant>)];
        int?[] spins =
        [
            .. options.GetValueOrDefault("spins", "default").Split(',').Select(s => int.TryParse(s, CultureInfo.InvariantCulture, out int n) ? n : (int?)null),
        ];
        Console.WriteLine($"{"kind",-7} {"variant",-15} {"affinity",-9} {"spin",-8} {"C ns/hit",10} {"FastTrap",10} {"ratio",6}   (medians of {rounds} rounds of {hits}; least)");
        foreach (string kind in kinds)
        {
            foreach (HitAffinity affinity in affinities)
            {
                await PrintGroupAsync(kind, affinity, variants, spins, rounds, hits).ConfigureAwait(false);
            }
        }
    }

    public static T Parse<T>(string text)
        where T : struct, Enum => Enum.Parse<T>(text, ignoreCase: true);

    /// <summary>All that is to be compared with one series of the reference, its rounds among theirs.</summary>
    private static async Task PrintGroupAsync(string kind, HitAffinity affinity, HitVariant[] variants, int?[] spins, int rounds, int hits)
    {
        List<(HitVariant Variant, int? Spin, ProbedTarget Target, List<double> Costs)> rows = [];
        List<double> reference = [];
        try
        {
            foreach (HitVariant variant in variants)
            {
                foreach (int? spin in spins)
                {
                    ProbedTarget target = await ProbedTarget.StartAsync(ReferenceTracer.Hot, kind, hits, variant, affinity, spin, warm: true).ConfigureAwait(false);
                    rows.Add((variant, spin, target, []));
                }
            }

            for (int round = 0; round < rounds; round++)
            {
                reference.Add(ReferenceTracer.Run(kind, hits, affinity == HitAffinity.Follow ? HitAffinity.Same : affinity, ReferenceSpin));
                foreach ((HitVariant variant, _, ProbedTarget target, List<double> costs) in rows)
                {
                    costs.Add(target.Round() / (variant == HitVariant.EntryAndReturn ? 2 : 1));
                }
            }
        }
        finally
        {
            foreach ((_, _, ProbedTarget target, _) in rows)
            {
                await target.DisposeAsync().ConfigureAwait(false);
            }
        }

        double c = Median(reference);
        foreach ((HitVariant variant, int? spin, _, List<double> costs) in rows)
        {
            double ours = Median(costs);
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{kind,-7} {variant,-15} {affinity,-9} {spin?.ToString(CultureInfo.InvariantCulture) ?? "default",-8} {c,10:0} {ours,10:0} {ours / c,6:0.00}   ({reference.Min():0}; {costs.Min():0}; {costs.Min() / reference.Min():0.00})"));
        }
    }

    public static double Median(List<double> values)
    {
        double[] sorted = [.. values.Order()];
        return sorted.Length % 2 == 1 ? sorted[sorted.Length / 2] : (sorted[sorted.Length / 2 - 1] + sorted[sorted.Length / 2]) / 2;
    }
}
