using FastTrap.Engine;

namespace FastTrap.Probes;

/// <summary>What a description matched: probes to enable, and those that are refused.</summary>
/// <param name="processId">The process.</param>
/// <param name="limit">Instructions that may be trapped, over all probes.</param>
internal sealed class MatchResult(int processId, int limit)
{
    private readonly List<ProbeSpec> _specs = [];
    private int _sites;

    public IReadOnlyList<ProbeSpec> Specs => _specs;

    public List<ProbeFailure> Failures { get; } = [];

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

        _specs.Clear();
        _specs.AddRange(offsets);
    }

    /// <summary>Adds a probe.</summary>
    /// <exception cref="FastTrapException">The limit is exceeded.</exception>
    public void Add(ProbeSpec spec)
    {
        _sites += spec.Instructions.Length;
        if (_sites > limit)
        {
            throw new FastTrapException(
                FastTrapError.TooManyTracepoints,
                $"The description needs more than {limit} tracepoints. Narrow the pattern, or raise TracerOptions.MaximumTracepoints.", processId);
        }

        _specs.Add(spec);
        Ageing.OnMade(_specs.Count);
    }
}
