namespace FastTrap.Engine;

/// <summary>A probe which a meta provider describes.</summary>
/// <remarks>Source: dtrace.h, dtrace_helper_probedesc_t.</remarks>
internal sealed class MetaProbeDescription
{
    public required string Module { get; init; }

    public required string Function { get; init; }

    public required string Name { get; init; }

    /// <summary>What the offsets are counted from, in the target.</summary>
    public ulong BaseAddress { get; init; }

    /// <summary>The probe's instructions.</summary>
    public uint[] Offsets { get; init; } = [];

    /// <summary>Instructions by which the program asks whether the probe is enabled.</summary>
    public uint[] IsEnabledOffsets { get; init; } = [];

    /// <summary>Types, and which native argument each argument is.</summary>
    public ArgumentDescription[] Arguments { get; init; } = [];
}

/// <summary>Why a meta provider's wish is refused.</summary>
internal enum MetaRefusal
{
    None,

    /// <summary>The name is that of the provider of functions.</summary>
    ReservedName,

    /// <summary>The name leaves no room for a pid.</summary>
    NameTooLong,

    /// <summary>The process image has gone.</summary>
    ProcessGone,

    /// <summary>No instruction, or one twice.</summary>
    InvalidOffsets,

    /// <summary>The limit on tracepoints.</summary>
    TooManyTracepoints,

    /// <summary>The probe exists with other instructions and is enabled: it cannot be given more now.</summary>
    InUse,
}
