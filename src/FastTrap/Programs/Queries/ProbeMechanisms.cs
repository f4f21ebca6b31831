namespace FastTrap;

/// <summary>By which mechanisms the instructions of a query's probes are armed.</summary>
/// <param name="Jump">Instructions armed by <see cref="ProbeMechanism.Jump"/>.</param>
/// <param name="InProcessTrap">Instructions armed by <see cref="ProbeMechanism.InProcessTrap"/>.</param>
/// <param name="Breakpoint">Instructions armed by <see cref="ProbeMechanism.Breakpoint"/>.</param>
/// <param name="Reasons">Why the latter two are not armed by Jump, as sentences for people, and how many for each.</param>
public sealed record ProbeMechanisms(int Jump, int InProcessTrap, int Breakpoint, IReadOnlyDictionary<string, int> Reasons)
{
    /// <summary>Nothing is armed.</summary>
    internal static ProbeMechanisms None { get; } = new(0, 0, 0, new Dictionary<string, int>());
}
