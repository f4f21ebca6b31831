using FastTrap.Isa;

namespace FastTrap.Engine;

/// <summary>A probe that matched and is to be enabled, with its decoded instructions.</summary>
internal sealed class ProbeSpec
{
    public required string Module { get; init; }

    public required string Function { get; init; }

    public required string Name { get; init; }

    public required ProbeKind Kind { get; init; }

    public required ulong FunctionAddress { get; init; }

    public required ulong FunctionLength { get; init; }

    public ulong ColdStart { get; init; }

    public ulong ColdLength { get; init; }

    /// <summary>One for entry and offset probes, one or more for return probes.</summary>
    public required DisplacedInstruction[] Instructions { get; init; }
}
