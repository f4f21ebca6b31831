namespace FastTrap;

/// <summary>
/// How long enabling and disabling held threads of the process up: those that were interrupted, that ran into a trap on the way to a jump, or waited behind one. What else stopped threads of the process meanwhile (hits of other
/// probes, signals) is among it. Upper bounds: a stop counts from when it may have begun.
/// </summary>
/// <param name="Longest">The longest time for which one thread stood.</param>
/// <param name="Total">The sum over all stops of all threads.</param>
/// <param name="Stops">How many stops there were.</param>
public readonly record struct ProbeStall(TimeSpan Longest, TimeSpan Total, long Stops)
{
    /// <summary>Both together.</summary>
    public static ProbeStall operator +(ProbeStall left, ProbeStall right) => left.Add(right);

    /// <summary>Both together.</summary>
    public ProbeStall Add(ProbeStall other) =>
        new(Longest > other.Longest ? Longest : other.Longest, Total + other.Total, Stops + other.Stops);
}
