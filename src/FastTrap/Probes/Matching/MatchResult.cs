using FastTrap.Engine;

namespace FastTrap.Probes;

/// <summary>What a description matched: probes to enable, and those that are refused.</summary>
internal sealed class MatchResult
{
    public List<ProbeSpec> Specs { get; } = [];

    public List<ProbeFailure> Failures { get; } = [];

    /// <summary>Instructions to be trapped, over all specs.</summary>
    public int SiteCount { get; set; }
}
