namespace FastTrap;

/// <summary>What the hits of an enabling cost the target, over the last second.</summary>
/// <param name="HitsPerSecond">Stops for this enabling in a second, those that its predicate turned down included.</param>
/// <param name="NanosecondsPerHit">
/// How long a thread of the target stands still for one, on average: from the kernel's report to its going on, predicate, handler and the displaced instruction included. The kernel's own
/// switches before and after it are not in it: they add some microseconds (docs/performance.md).
/// </param>
/// <param name="ShareOfCpu">The share of the time in which a thread stood still for this enabling, 0 to 1. One stop that serves several enablings counts in full for each.</param>
public readonly record struct ProbeCost(double HitsPerSecond, double NanosecondsPerHit, double ShareOfCpu);

/// <summary>What becomes of an enabling that costs more than its budget (<see cref="ProbeOptions.Budget"/>).</summary>
public enum BudgetAction
{
    /// <summary>It is disabled: its traps are removed, its stream ends, and <see cref="ProbeEnabling.Failures"/> says so.</summary>
    Disable,

    /// <summary>Its traps are taken out and put back again and again, so that it stays within the budget; hits in between are not seen (<see cref="ProbeEnabling.SampledShare"/>).</summary>
    Sample,
}

/// <summary>How an enabling stands to its budget.</summary>
public enum BudgetState
{
    /// <summary>It has none, or has kept to it so far.</summary>
    Within,

    /// <summary>It has exceeded it, and hits are sampled since.</summary>
    Sampled,

    /// <summary>It has exceeded it and was disabled.</summary>
    Disabled,
}
