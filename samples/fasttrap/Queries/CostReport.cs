using System.Globalization;
using FastTrap.Tool.Output;

namespace FastTrap.Tool.Queries;

/// <summary>Says on standard error what a hit has cost, as predicted and as measured, by mechanism.</summary>
internal static class CostReport
{
    /// <summary>One line; with <c>--verbose</c> one for each mechanism, and the reasons for breakpoints.</summary>
    /// <param name="totals">What the hits cost.</param>
    /// <param name="looks">What was seen of code in the target.</param>
    /// <param name="trialNs">What a hit by breakpoint cost another program; null: not known.</param>
    /// <param name="verbose">Whether to say all.</param>
    public static void Write(MechanismTotals totals, ThreadLooks looks, double? trialNs, bool verbose)
    {
        IReadOnlyList<(ProbeMechanism Mechanism, MechanismTotal Total)> all = totals.All;
        if (all.Count == 0)
        {
            return;
        }

        Console.Error.WriteLine($"fasttrap: a hit costs {string.Join("; ", all.Select(entry => Describe(entry.Mechanism, entry.Total, looks, trialNs)))}");
        if (!verbose)
        {
            return;
        }

        foreach ((ProbeMechanism mechanism, MechanismTotal total) in all)
        {
            Console.Error.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"fasttrap: {total.Instructions} instruction{(total.Instructions == 1 ? "" : "s")} by {NameOf(mechanism)}, {(total.HasHits ? $"{total.Hits} hits" : $"of {totals.CodeHits} hits by code")}"));
        }

        foreach ((string reason, int count) in totals.Reasons)
        {
            Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"fasttrap: {count} not by jump because {reason}"));
        }
    }

    public static string NameOf(ProbeMechanism mechanism) => mechanism switch
    {
        ProbeMechanism.Jump => "jump",
        ProbeMechanism.Breakpoint => "breakpoint",
        ProbeMechanism.InProcessTrap => "in-process trap",
        _ => mechanism.ToString(),
    };

    private static string Describe(ProbeMechanism mechanism, in MechanismTotal total, ThreadLooks looks, double? trialNs)
    {
        string predicted = (total.PredictedNs ?? (mechanism == ProbeMechanism.Breakpoint ? trialNs : null)) is double ns ? $"{Durations.FormatShort(ns)} predicted" : "not predicted";
        string measured = mechanism == ProbeMechanism.Jump
            ? looks.Result is { } result ? $"{(result.IsBound ? "under " : "")}{Durations.FormatShort(result.Ns)} measured ({result.Looks} looks)" : $"not measured ({looks.Running} looks at running threads are too few)"
            : mechanism == ProbeMechanism.InProcessTrap ? "not measured"
            : total.MeasuredNs is double mean ? $"{Durations.FormatShort(mean)} measured ({total.MeasuredHits} stops)" : "not measured (no hit)";
        return $"by {NameOf(mechanism)} {predicted}, {measured}";
    }
}
