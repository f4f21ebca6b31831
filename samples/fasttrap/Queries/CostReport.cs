using System.Globalization;
using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;

namespace FastTrap.Tool.Queries;

/// <summary>Says on standard error what a hit has cost, as predicted and as measured, by mechanism.</summary>
internal static class CostReport
{
    /// <summary>One line, and one that says why not all is by jump; with <c>--verbose</c> one for each mechanism, and all reasons.</summary>
    /// <param name="totals">What the hits cost.</param>
    /// <param name="looks">What was seen of code in the target.</param>
    /// <param name="trialNs">What a hit by breakpoint cost another program; null: not known.</param>
    /// <param name="options">What was asked for.</param>
    public static void Write(MechanismTotals totals, ThreadLooks looks, double? trialNs, ToolOptions options)
    {
        IReadOnlyList<(ProbeMechanism Mechanism, MechanismTotal Total)> all = totals.All;
        if (all.Count == 0)
        {
            return;
        }

        Console.Error.WriteLine($"fasttrap: a hit costs {string.Join("; ", all.Select(entry => Describe(entry.Mechanism, entry.Total, looks, trialNs)))}");
        IEnumerable<KeyValuePair<string, int>> reasons = totals.Reasons;
        if (options.Verbose)
        {
            foreach ((ProbeMechanism mechanism, MechanismTotal total) in all)
            {
                Console.Error.WriteLine(string.Create(
                    CultureInfo.InvariantCulture, $"fasttrap: {CountOf(total.Instructions)} by {NameOf(mechanism)}, {(total.HasHits ? $"{total.Hits} hits" : $"of {totals.CodeHits} hits by code")}"));
            }
        }
        else
        {
            reasons = options.Mechanism == ProbeMechanism.Auto ? reasons.Take(1) : [];
        }

        foreach ((string reason, int count) in reasons)
        {
            Console.Error.WriteLine($"fasttrap: {CountOf(count)} not by jump because {reason.Replace("ask for ProbeMechanism.Jump", "ask for --mechanism jump", StringComparison.Ordinal)}");
        }
    }

    private static string CountOf(int instructions) => string.Create(CultureInfo.InvariantCulture, $"{instructions} instruction{(instructions == 1 ? "" : "s")}");

    public static string NameOf(ProbeMechanism mechanism) => mechanism switch
    {
        ProbeMechanism.Jump => "jump",
        ProbeMechanism.Breakpoint => "breakpoint",
        ProbeMechanism.InProcessTrap => "in-process trap",
        _ => mechanism.ToString(),
    };

    private static string Describe(ProbeMechanism mechanism, in MechanismTotal total, ThreadLooks looks, double? trialNs)
    {
        if (mechanism == ProbeMechanism.InProcessTrap)
        {
            // We trace: each hit stops its thread for us, though all that is done then is done by code.
            string here = trialNs is { } stop ? $"{Durations.FormatShort(stop)} predicted while fasttrap is attached, " : "";
            return $"by {NameOf(mechanism)} {here}{(total.PredictedNs is { } alone ? $"{Durations.FormatShort(alone)} predicted without it" : "not predicted without it")}, not measured";
        }

        string predicted = (total.PredictedNs ?? (mechanism == ProbeMechanism.Breakpoint ? trialNs : null)) is double ns ? $"{Durations.FormatShort(ns)} predicted" : "not predicted";
        string measured = mechanism == ProbeMechanism.Jump
            ? looks.Result is { } result ? $"{(result.IsBound ? "under " : "")}{Durations.FormatShort(result.Ns)} measured ({result.Looks} looks)" : $"not measured ({looks.Running} looks at running threads are too few)"
            : total.MeasuredNs is double mean ? $"{Durations.FormatShort(mean)} measured ({total.MeasuredHits} stops)" : "not measured (no hit)";
        return $"by {NameOf(mechanism)} {predicted}, {measured}";
    }
}
