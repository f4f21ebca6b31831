namespace FastTrap.Tool.CommandLine;

/// <summary>What the command line asks for.</summary>
internal sealed record ToolOptions
{
    public required string Verb { get; init; }

    public IReadOnlyList<int> ProcessIds { get; init; } = [];

    /// <summary>The words of <c>-c</c>, empty without it.</summary>
    public IReadOnlyList<string> Command { get; init; } = [];

    /// <summary>The file of <c>list</c>, or null.</summary>
    public string? File { get; init; }

    public IReadOnlyList<ProbeDescription> Descriptions { get; init; } = [];

    /// <summary>Whether <c>trace</c> and <c>count</c> follow children and what the programs execute.</summary>
    public bool Follow { get; init; }

    public bool Json { get; init; }

    public bool Folded { get; init; }

    public bool Verbose { get; init; }

    /// <summary>How probes are to be armed.</summary>
    public ProbeMechanism Mechanism { get; init; }

    /// <summary>Whether hits are to be handled by code in the program, or not at all.</summary>
    public bool NeedsCode => Mechanism is ProbeMechanism.Jump or ProbeMechanism.InProcessTrap;

    /// <summary>Whether <c>count</c> shows probes that were never hit.</summary>
    public bool All { get; init; }

    public string? OutputPath { get; init; }

    public TimeSpan? Duration { get; init; }

    /// <summary>Arguments shown by <c>trace</c>.</summary>
    public int ArgumentCount { get; init; } = 6;

    /// <summary>Frames taken by <c>stack</c>.</summary>
    public int StackDepth { get; init; } = 64;
}
