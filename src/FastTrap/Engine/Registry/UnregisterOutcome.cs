namespace FastTrap.Engine;

/// <summary>What became of an attempt to unregister a provider.</summary>
internal enum UnregisterOutcome
{
    /// <summary>It is gone, with all its probes.</summary>
    Done,

    /// <summary>Probes of it are enabled, or somebody creates some; it is as it was.</summary>
    InUse,

    /// <summary>A hit that began before may still be using its probes; it is as it was, and is to be tried again soon.</summary>
    TryAgain,
}
