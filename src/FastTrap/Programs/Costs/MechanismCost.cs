namespace FastTrap;

/// <summary>What the hits of a query cost by one mechanism (<see cref="ProbeResult.GetCosts"/>).</summary>
/// <param name="Mechanism">The mechanism.</param>
/// <param name="Instructions">Instructions of the query's probes that are armed by it, or were at the end.</param>
/// <param name="Hits">
/// Hits by it: of <see cref="ProbeMechanism.Breakpoint"/> all stops, of the others those that passed the conditions. Null where some instructions are armed by <see cref="ProbeMechanism.Jump"/> and some by
/// <see cref="ProbeMechanism.InProcessTrap"/>, and the query does not tell their hits apart: <see cref="ProbeResult.CodeHits"/> has the sum.
/// </param>
/// <param name="PredictedNs">
/// By <see cref="ProbeMechanism.Jump"/>: nanoseconds for which the query's code keeps a thread, the two jumps included and the displaced instructions not. The code of the first instruction was executed in the tracer itself, on memory of its own,
/// some thousand times one behind the other: so with warm caches, and for hits that pass the conditions. By <see cref="ProbeMechanism.InProcessTrap"/>: as that, and the time of a trap with a handler that does nothing, which is measured here, too; so it is
/// what a hit costs where nobody traces the process (<see cref="TracedProcess.LetGoAsync"/>). While it is traced the kernel stops the thread for the tracer instead, which costs as much as a hit by <see cref="ProbeMechanism.Breakpoint"/>. Null for the others.
/// </param>
/// <param name="MeasuredNs">
/// By <see cref="ProbeMechanism.Breakpoint"/>: nanoseconds for which a thread of the target stood still, on average over the query's stops that were timed, without the kernel's own switches before and after (<see cref="ProbeCost"/>). Null for the
/// others: nothing in the target is timed; <see cref="TracedProcess.LookAtThreadsAsync"/> tells how much of the time is spent in code of queries.
/// </param>
public sealed record MechanismCost(ProbeMechanism Mechanism, int Instructions, long? Hits, double? PredictedNs, double? MeasuredNs);
