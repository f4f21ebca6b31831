using FastTrap.Usdt;

namespace FastTrap.Engine;

/// <summary>What few probes have. Immutable.</summary>
internal sealed record ProbeDetails
{
    /// <summary>The instructions, unless the probe has one, in its function; in order of addresses for static probes.</summary>
    public ulong[]? Sites { get; init; }

    /// <summary>The function's name, unless a symbol table has it.</summary>
    public string? Function { get; init; }

    /// <summary>The probe's name, unless its kind and place say it.</summary>
    public string? Name { get; init; }

    /// <summary>The function's split cold part, or 0 and 0.</summary>
    public ulong ColdStart { get; init; }

    public ulong ColdLength { get; init; }

    /// <summary>Instructions by which the program asks whether the probe is enabled, by address.</summary>
    public ulong[] IsEnabledSites { get; init; } = [];

    public IReadOnlyList<ArgumentDescription> Arguments { get; init; } = [];

    /// <summary>The arguments of a static probe at each of its sites, which are in order of addresses.</summary>
    public UsdtArgument[][] SiteArguments { get; init; } = [];

    /// <summary>The counters of 16 bits in the target which tell the program that a static probe is enabled.</summary>
    public ulong[] SemaphoreAddresses { get; init; } = [];

    /// <summary>The native argument that an argument of the probe is: they may be given in another order than the program passes them.</summary>
    public int NativeIndex(int index) => (uint)index < (uint)Arguments.Count ? Arguments[index].NativeIndex : index;

    /// <summary>What a spec has of these; null if nothing.</summary>
    public static ProbeDetails? Of(ProbeSpec spec) =>
        spec.ColdLength == 0 && spec.IsEnabledInstructions.Length == 0 && spec.Arguments.Count == 0 && spec.SiteArguments.Length == 0
        && spec.SemaphoreAddresses.Length == 0
            ? null
            : new ProbeDetails
            {
                ColdStart = spec.ColdStart,
                ColdLength = spec.ColdLength,
                IsEnabledSites = Array.ConvertAll(spec.IsEnabledInstructions, i => i.Address),
                Arguments = spec.Arguments,
                SiteArguments = spec.SiteArguments,
                SemaphoreAddresses = spec.SemaphoreAddresses,
            };
}
