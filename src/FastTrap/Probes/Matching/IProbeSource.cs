namespace FastTrap.Probes;

/// <summary>A family of probes that the modules of a process have, such as those of functions, or static ones. The matcher asks them all.</summary>
internal interface IProbeSource
{
    /// <summary>Whether a description can mean probes of this family at all, by its provider and name.</summary>
    bool Means(ProbeDescription description);

    /// <summary>Adds the probes of a module which a description means, ready to be enabled.</summary>
    /// <exception cref="FastTrapException">More instructions than the limit on tracepoints.</exception>
    void Match(ModuleCode module, ProbeDescription description, MatchResult result, CancellationToken cancellationToken);

    /// <summary>Adds what listing tells of them.</summary>
    void List(ModuleCode module, ProbeDescription description, List<ProbeInfo> probes, CancellationToken cancellationToken);
}
