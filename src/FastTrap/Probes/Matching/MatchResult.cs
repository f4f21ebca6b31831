using FastTrap.Engine;

namespace FastTrap.Probes;

/// <summary>What a description matched: probes to enable, and those that are refused.</summary>
internal sealed class MatchResult
{
    public List<ProbeSpec> Specs { get; } = [];

    public List<ProbeFailure> Failures { get; } = [];

    /// <summary>Instructions to be trapped, over all specs.</summary>
    public int SiteCount { get; set; }

    /// <summary>Leaves the offset probes only, to fire after their instructions.</summary>
    public void FireAfter(ProbeDescription description, int processId)
    {
        ProbeSpec[] offsets = [.. Specs.Where(s => s.Kind == ProbeKind.Offset).Select(s => s with { Kind = ProbeKind.PostOffset })];
        if (offsets.Length == 0 && Specs.Count != 0)
        {
            throw new FastTrapException(
                FastTrapError.NoMatch,
                $"'{description}' matches no offset, and only offset probes fire after their instruction; give an offset as the name, or use a return probe.", processId);
        }

        Specs.Clear();
        Specs.AddRange(offsets);
    }
}
