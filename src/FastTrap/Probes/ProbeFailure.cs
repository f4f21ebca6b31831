namespace FastTrap;

/// <summary>A probe that matched and could not be enabled, or was withdrawn later, with the reason.</summary>
/// <param name="Probe">The probe's full name.</param>
/// <param name="Address">The target address concerned.</param>
/// <param name="Refusal">The reason.</param>
/// <param name="Message">The reason in words, ending with what to do.</param>
public sealed record ProbeFailure(string Probe, ulong Address, ProbeRefusal Refusal, string Message)
{
    /// <summary>The probe and the message.</summary>
    public override string ToString() => $"{Probe}: {Message}";
}
