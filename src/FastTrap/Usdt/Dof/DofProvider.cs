namespace FastTrap.Usdt;

/// <summary>How stable an interface is (DTRACE_STABILITY_*).</summary>
internal enum DofStability : byte
{
    Internal,
    Private,
    Obsolete,
    External,
    Unstable,
    Evolving,
    Stable,
    Standard,
}

/// <summary>On what an interface depends (DTRACE_CLASS_*).</summary>
internal enum DofClass : byte
{
    Unknown,
    Cpu,
    Platform,
    Group,
    Isa,
    Common,
}

/// <summary>The stability of a name, of the data behind it, and the architectures it is for.</summary>
internal readonly record struct DofAttribute(DofStability Name, DofStability Data, DofClass Class);

/// <summary>What a provider promises of each part of its descriptions.</summary>
internal sealed record DofProviderAttributes(DofAttribute Provider, DofAttribute Module, DofAttribute Function, DofAttribute Name, DofAttribute Arguments);

/// <summary>An argument as consumers see it.</summary>
/// <param name="Index">Its number.</param>
/// <param name="NativeType">The type of the program's argument.</param>
/// <param name="TranslatedType">The type that it is shown as.</param>
/// <param name="NativeIndex">Which of the program's arguments it is.</param>
internal sealed record DofArgument(int Index, string NativeType, string TranslatedType, int NativeIndex);

/// <summary>A probe in one function.</summary>
/// <param name="Function">The function it is in.</param>
/// <param name="Name">Its name.</param>
/// <param name="BaseAddress">The address that the offsets were relative to.</param>
/// <param name="Addresses">Its places, ascending.</param>
/// <param name="IsEnabledAddresses">The places that ask whether it is enabled, ascending.</param>
/// <param name="NativeTypes">The types of the program's arguments.</param>
/// <param name="Arguments">The arguments as consumers see them.</param>
internal sealed record DofProbe(
    string Function,
    string Name,
    ulong BaseAddress,
    IReadOnlyList<ulong> Addresses,
    IReadOnlyList<ulong> IsEnabledAddresses,
    IReadOnlyList<string> NativeTypes,
    IReadOnlyList<DofArgument> Arguments);

/// <summary>A provider with its probes.</summary>
/// <param name="Name">Its name, without the process's id.</param>
/// <param name="Attributes">What it promises.</param>
/// <param name="Probes">Its probes.</param>
/// <remarks>Source: what fasttrap.c's meta provider is handed, dtrace_helper_provdesc_t and dtrace_helper_probedesc_t.</remarks>
internal sealed record DofProvider(string Name, DofProviderAttributes Attributes, IReadOnlyList<DofProbe> Probes);

/// <summary>Where the bytes are, or will be, in the process they belong to.</summary>
/// <param name="LoadBase">What is added to the link-time addresses of the module; 0 for a program at fixed addresses.</param>
/// <param name="Address">The run-time address of the section's first byte, which newer DOF counts from.</param>
internal readonly record struct DofPlacement(ulong LoadBase, ulong Address);
