namespace FastTrap.Native;

/// <summary>What <see cref="IPlatform.SpawnSeized"/> starts.</summary>
internal sealed class SpawnRequest
{
    /// <summary>The program file, absolute or relative to the tracer's directory; PATH is not searched here.</summary>
    public required string Path { get; init; }

    /// <summary>argv, with argv[0].</summary>
    public required IReadOnlyList<string> Arguments { get; init; }

    /// <summary>KEY=VALUE strings, or null to inherit the tracer's.</summary>
    public IReadOnlyList<string>? Environment { get; init; }

    /// <summary>The working directory, or null to inherit.</summary>
    public string? WorkingDirectory { get; init; }

    /// <summary>Files to open as descriptors 0, 1 and 2, or null to inherit each. Output files are created or truncated.</summary>
    public string? StandardInput { get; init; }

    public string? StandardOutput { get; init; }

    public string? StandardError { get; init; }
}
