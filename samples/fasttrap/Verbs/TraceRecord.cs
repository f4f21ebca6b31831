namespace FastTrap.Tool.Verbs;

/// <summary>A hit on its way to the printer.</summary>
internal sealed class TraceRecord
{
    public required Probe Probe { get; init; }

    public required int ProcessId { get; init; }

    public required int ThreadId { get; init; }

    public required long TimeNs { get; init; }

    public required ulong ProgramCounter { get; init; }

    public ulong ReturnValue { get; init; }

    public ulong[] Arguments { get; set; } = [];

    /// <summary>Of a static probe, what the arguments are.</summary>
    public ArgumentKind[]? Kinds { get; set; }

    /// <summary>Of a static probe, the texts that arguments point to.</summary>
    public string?[]? Texts { get; set; }

    /// <summary>Whether the program's author says what the arguments are: USDT and DOF.</summary>
    public bool IsDescribed => Kinds is not null;
}
