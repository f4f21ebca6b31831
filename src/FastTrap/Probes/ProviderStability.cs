namespace FastTrap;

/// <summary>How far a name, or what it stands for, can be relied on from one version to the next; in rising order.</summary>
public enum StabilityLevel
{
    /// <summary>Of the tracer itself.</summary>
    Internal,

    /// <summary>Of the program itself; it may change at any time.</summary>
    Private,

    /// <summary>It will go.</summary>
    Obsolete,

    /// <summary>Somebody else's.</summary>
    External,

    /// <summary>It may change with a minor version.</summary>
    Unstable,

    /// <summary>It changes compatibly, if it does.</summary>
    Evolving,

    /// <summary>It stays.</summary>
    Stable,

    /// <summary>A standard fixes it.</summary>
    Standard,
}

/// <summary>On what something depends; in rising order of how much it holds for.</summary>
public enum DependencyClass
{
    /// <summary>Not known.</summary>
    Unknown,

    /// <summary>The model of the processor.</summary>
    Cpu,

    /// <summary>The kind of machine.</summary>
    Platform,

    /// <summary>A group of machines.</summary>
    Group,

    /// <summary>The instruction set. The highest that a probe of instructions can have.</summary>
    Isa,

    /// <summary>Nothing of these: it is the same everywhere.</summary>
    Common,
}

/// <summary>The stability of one part of a probe's description.</summary>
/// <param name="Name">Of the name.</param>
/// <param name="Data">Of what the name stands for.</param>
/// <param name="Class">What both depend on.</param>
public readonly record struct StabilityAttributes(StabilityLevel Name, StabilityLevel Data, DependencyClass Class)
{
    internal StabilityAttributes Capped() => Class > DependencyClass.Isa ? this with { Class = DependencyClass.Isa } : this;
}

/// <summary>The stability of a provider's probes, part by part.</summary>
/// <param name="Provider">Of the provider.</param>
/// <param name="Module">Of modules.</param>
/// <param name="Function">Of functions.</param>
/// <param name="Name">Of probe names.</param>
/// <param name="Arguments">Of the arguments.</param>
/// <remarks>Immutable. Source: fasttrap.c, pid_attr, and the cap of fasttrap_meta_provide.</remarks>
public sealed record ProviderStability(
    StabilityAttributes Provider, StabilityAttributes Module, StabilityAttributes Function, StabilityAttributes Name, StabilityAttributes Arguments)
{
    private static readonly StabilityAttributes s_evolving = new(StabilityLevel.Evolving, StabilityLevel.Evolving, DependencyClass.Isa);
    private static readonly StabilityAttributes s_private = new(StabilityLevel.Private, StabilityLevel.Private, DependencyClass.Unknown);

    /// <summary>That of the <c>pid</c> provider: the provider and the names evolve, the program's own functions are its own business.</summary>
    public static ProviderStability Pid { get; } = new(s_evolving, s_private, s_private, s_evolving, s_private);

    /// <summary>What probes of instructions can promise: no class above <see cref="DependencyClass.Isa"/>.</summary>
    internal ProviderStability Capped() =>
        new(Provider.Capped(), Module.Capped(), Function.Capped(), Name.Capped(), Arguments.Capped());
}
