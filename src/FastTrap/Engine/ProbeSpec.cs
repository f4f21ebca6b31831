using FastTrap.Isa;
using FastTrap.Usdt;

namespace FastTrap.Engine;

/// <summary>A probe that matched and is to be enabled, with its decoded instructions.</summary>
internal sealed record ProbeSpec
{
    /// <summary>The provider's name without process id, for example <c>postgresql</c>; null for <c>pid</c>.</summary>
    public string? Provider { get; init; }

    public required string Module { get; init; }

    public required FunctionName Function { get; init; }

    public required string Name { get; init; }

    public required ProbeKind Kind { get; init; }

    public required ulong FunctionAddress { get; init; }

    public required ulong FunctionLength { get; init; }

    public ulong ColdStart { get; init; }

    public ulong ColdLength { get; init; }

    /// <summary>One for entry and offset probes, one or more for return and static probes.</summary>
    public required DisplacedInstruction[] Instructions { get; init; }

    /// <summary>The windows of <see cref="Instructions"/>; empty if none were sought.</summary>
    public Mechanisms.SiteWindow[] Windows { get; init; } = [];

    /// <summary>Instructions by which the program asks whether the probe is enabled.</summary>
    public DisplacedInstruction[] IsEnabledInstructions { get; init; } = [];

    /// <summary>The first instruction.</summary>
    public ulong Address => Instructions.Length != 0 ? Instructions[0].Address : IsEnabledInstructions[0].Address;

    /// <summary>What is known of the arguments.</summary>
    public IReadOnlyList<ArgumentDescription> Arguments { get; init; } = [];

    /// <summary>The arguments of a static probe at each of its instructions, which are in order of addresses then.</summary>
    public UsdtArgument[][] SiteArguments { get; init; } = [];

    /// <summary>The counters of 16 bits in the target which tell the program that a static probe is enabled.</summary>
    public ulong[] SemaphoreAddresses { get; init; } = [];
}
