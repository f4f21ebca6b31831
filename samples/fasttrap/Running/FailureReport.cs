namespace FastTrap.Tool.Running;

/// <summary>Tells on standard error what could not be enabled.</summary>
internal static class FailureReport
{
    /// <summary>A line for each reason with the number of probes, or for each probe.</summary>
    public static void Write(IReadOnlyList<ProbeFailure> failures, bool verbose)
    {
        if (failures.Count == 0)
        {
            return;
        }

        if (verbose)
        {
            foreach (ProbeFailure failure in failures)
            {
                Console.Error.WriteLine($"fasttrap: not enabled: {failure}");
            }

            return;
        }

        Console.Error.WriteLine($"fasttrap: {failures.Count} probe{(failures.Count == 1 ? "" : "s")} could not be enabled (--verbose names each):");
        foreach (IGrouping<ProbeRefusal, ProbeFailure> group in failures.GroupBy(failure => failure.Refusal).OrderByDescending(group => group.Count()))
        {
            Console.Error.WriteLine($"  {group.Count(),7}  {group.Key}, for example {group.First()}");
        }
    }
}
