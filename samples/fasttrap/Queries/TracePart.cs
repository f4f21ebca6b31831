using FastTrap.Tool.Verbs;

namespace FastTrap.Tool.Queries;

/// <summary>Probes of which the same is recorded.</summary>
/// <param name="Description">The probes.</param>
/// <param name="ArgumentCount">Arguments that static probes among them may declare.</param>
/// <param name="Pointers">Which of these may point to texts, in order.</param>
/// <param name="MayBeFunctions">Whether there may be functions among them.</param>
internal sealed record TracePart(ProbeDescription Description, int ArgumentCount, IReadOnlyList<int> Pointers, bool MayBeFunctions)
{
    /// <summary>Arguments that are shown at most.</summary>
    private const int MostArguments = 12;

    /// <summary>More parts than this are not made of one description: each has memory of its own in the program.</summary>
    private const int MostParts = 32;

    /// <summary>Probes of functions only.</summary>
    public static TracePart OfFunctions(ProbeDescription description) => new(description, 0, [], MayBeFunctions: true);

    /// <summary>Any probes: each argument of each may be a text, so memory is read at each hit.</summary>
    public static TracePart OfAll(ProbeDescription description) => new(description, MostArguments, [.. Enumerable.Range(0, MostArguments)], MayBeFunctions: true);

    /// <summary>What a description means in a process: static probes by their names, so that no more is read than those declare, and functions apart from them.</summary>
    public static async Task<IReadOnlyList<TracePart>> FindAsync(TracedProcess process, ProbeDescription description, CancellationToken cancellationToken)
    {
        if (TraceQuery.IsOfFunctions(description))
        {
            return [OfFunctions(description)];
        }

        string functions = $"pid{process.ProcessId}";
        IReadOnlyList<ProbeInfo> found = await process.ListAsync(description, cancellationToken).ConfigureAwait(false);
        List<TracePart> parts =
        [
            .. found.Where(probe => probe.Provider != functions).GroupBy(probe => (probe.Provider, probe.Module, probe.Name)).Select(group => new TracePart(
                new ProbeDescription(Glob.Escape(group.Key.Provider), Glob.Escape(group.Key.Module), description.Function, Glob.Escape(group.Key.Name)),
                group.Max(probe => probe.Arguments.Count),
                [.. group.SelectMany(probe => probe.Arguments).Where(ArgumentText.MayPoint).Select(argument => argument.Index).Distinct().Order()],
                MayBeFunctions: false)),
        ];
        if (parts.Count is 0 or > MostParts)
        {
            // Nothing: enabling says what is wrong with it.
            return [OfAll(description)];
        }

        if (found.Any(probe => probe.Provider == functions))
        {
            parts.Add(OfFunctions(new ProbeDescription(functions, description.Module, description.Function, description.Name)));
        }

        return parts;
    }
}
