namespace FastTrap.Engine;

/// <summary>The order in which locks may be taken: a thread that holds one takes those of a higher rank only.</summary>
internal enum LockRank
{
    /// <summary>The list of processes of a tracer.</summary>
    Tracer,

    /// <summary>A process's or an image's own gate.</summary>
    ControlProcess,

    /// <summary>A bucket of the table of providers.</summary>
    ProviderBucket,

    /// <summary>The creation of probes of one provider. Never held together with <see cref="Provider"/>.</summary>
    ProviderCreation,

    /// <summary>The registry of probes.</summary>
    Registry,

    /// <summary>The counts and states of one provider.</summary>
    Provider,

    /// <summary>A bucket of the table of procs.</summary>
    ProcBucket,

    /// <summary>The counts of one proc.</summary>
    Proc,

    /// <summary>An enabling's own gate.</summary>
    Enabling,

    /// <summary>Nothing else is taken while it is held.</summary>
    Leaf,
}
