namespace FastTrap.Tool.Queries;

/// <summary>The fields of a record of <c>trace</c>, made by an expression: so an argument each, for those that are recorded.</summary>
internal sealed class TraceValues(
    ulong programCounter, ulong returnValue,
    TraceArgument? a0, TraceArgument? a1, TraceArgument? a2, TraceArgument? a3, TraceArgument? a4, TraceArgument? a5,
    TraceArgument? a6, TraceArgument? a7, TraceArgument? a8, TraceArgument? a9, TraceArgument? a10, TraceArgument? a11)
{
    public ulong ProgramCounter { get; } = programCounter;

    /// <summary>At return probes.</summary>
    public ulong ReturnValue { get; } = returnValue;

    public IReadOnlyList<TraceArgument> Arguments { get; } = [.. new[] { a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11 }.OfType<TraceArgument>()];
}

/// <summary>An argument.</summary>
/// <param name="Value">Its 64 bits.</param>
/// <param name="IsKnown">Whether it could be had; not asked of functions' probes.</param>
/// <param name="Text">What it points to, if that was asked; null: nothing that can be read.</param>
internal sealed record TraceArgument(ulong Value, bool IsKnown, string? Text);
