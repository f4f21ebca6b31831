namespace FastTrap.Tool.Queries;

/// <summary>The queries of one run: one for each description, in each process. Used by one verb, in order: enable, read, disable, read what stays.</summary>
internal abstract class QuerySet
{
    /// <summary>Probes that matched and could not be enabled.</summary>
    public abstract IReadOnlyList<ProbeFailure> Failures { get; }

    /// <summary>With <c>--follow</c>: processes in which nothing could be enabled.</summary>
    public abstract IReadOnlyList<FastTrapException> ProcessFailures { get; }

    /// <summary>What the hits cost so far, in processes that have ended, too.</summary>
    public abstract MechanismTotals Totals { get; }

    /// <summary>How many probes are enabled.</summary>
    public abstract int ProbeCount { get; }

    /// <summary>Enables all in one process.</summary>
    public abstract Task EnableInAsync(TracedProcess process, CancellationToken cancellationToken);

    /// <summary>Enables all in all processes of the tracer, also those that are to come.</summary>
    public abstract Task EnableEverywhereAsync(Tracer tracer, CancellationToken cancellationToken);

    /// <summary>Removes the probes: counts are final then.</summary>
    public abstract Task DisableAsync();
}

/// <summary>Queries with one kind of result.</summary>
/// <param name="descriptions">What is to be queried.</param>
/// <param name="queryOf">The query on one description.</param>
internal sealed class QuerySet<TResult>(IReadOnlyList<ProbeDescription> descriptions, Func<ProbeDescription, ProbeQuery<TResult>> queryOf) : QuerySet
    where TResult : ProbeResult
{
    private readonly List<QueryResult<TResult>> _results = [];
    private readonly List<(ProbeDescription Description, StandingResult<TResult> Standing)> _standing = [];
    private readonly MechanismTotals _ended = new();

    /// <summary>What to query in a process instead of the descriptions; null: they are taken, in one change.</summary>
    public Func<TracedProcess, IReadOnlyList<ProbeDescription>>? Expand { get; init; }

    /// <summary>Whether what <see cref="Expand"/> gives is enabled in one change, too, and not each by itself.</summary>
    public bool IsOneChange { get; init; }

    /// <summary>Told of each result, when its probes are enabled, or soon afterwards. Several threads, with <c>--follow</c>.</summary>
    public Action<QueryResult<TResult>>? Started { get; init; }

    /// <summary>With <c>--follow</c>: told of each result whose process has ended; it is not among <see cref="Results"/> any more. Several threads.</summary>
    public Action<QueryResult<TResult>>? Ended { get; init; }

    /// <summary>The results of all processes which have not ended, or are not followed.</summary>
    public IReadOnlyList<QueryResult<TResult>> Results =>
        [.. _results, .. _standing.SelectMany(s => s.Standing.Members.Select(m => new QueryResult<TResult>(s.Description, m.Key, m.Value)))];

    public override IReadOnlyList<ProbeFailure> Failures =>
        [.. _results.SelectMany(r => r.Result.Enablings).SelectMany(e => e.Failures), .. _standing.SelectMany(s => s.Standing.Failures)];

    public override IReadOnlyList<FastTrapException> ProcessFailures => [.. _standing.SelectMany(s => s.Standing.ProcessFailures)];

    public override MechanismTotals Totals
    {
        get
        {
            MechanismTotals totals = new();
            totals.Add(_ended);
            foreach (QueryResult<TResult> result in Results)
            {
                totals.Add(result.Result);
            }

            return totals;
        }
    }

    public override int ProbeCount => Results.Sum(r => r.Result.Enablings.Sum(e => e.Probes.Count));

    public override async Task EnableInAsync(TracedProcess process, CancellationToken cancellationToken)
    {
        IReadOnlyList<ProbeDescription> expanded = Expand?.Invoke(process) ?? descriptions;
        if (Expand is null || IsOneChange)
        {
            await EnableInAsync(process, expanded, cancellationToken).ConfigureAwait(false);
            return;
        }

        int before = _results.Count;
        FastTrapException? refusal = null;
        foreach (ProbeDescription description in expanded)
        {
            try
            {
                await EnableInAsync(process, [description], cancellationToken).ConfigureAwait(false);
            }
            catch (FastTrapException exception) when (exception.Error == FastTrapError.NoMatch && expanded.Count > 1)
            {
                refusal = exception;
                await Console.Error.WriteLineAsync($"fasttrap: {exception.Message}").ConfigureAwait(false);
            }
        }

        if (refusal is not null && _results.Count == before)
        {
            throw refusal;
        }
    }

    public override async Task EnableEverywhereAsync(Tracer tracer, CancellationToken cancellationToken)
    {
        foreach (ProbeDescription description in descriptions)
        {
            StandingResult<TResult> standing = await tracer.EnableAsync(
                queryOf(description),
                where: null,
                (process, result) => Started?.Invoke(new QueryResult<TResult>(description, process, result)),
                (process, result) =>
                {
                    _ended.Add(result);
                    Ended?.Invoke(new QueryResult<TResult>(description, process, result));
                },
                cancellationToken).ConfigureAwait(false);
            _standing.Add((description, standing));
        }
    }

    private async Task EnableInAsync(TracedProcess process, IReadOnlyList<ProbeDescription> wanted, CancellationToken cancellationToken)
    {
        IReadOnlyList<TResult> results = await process.EnableAsync([.. wanted.Select(queryOf)], cancellationToken).ConfigureAwait(false);
        for (int i = 0; i < results.Count; i++)
        {
            QueryResult<TResult> result = new(wanted[i], process, results[i]);
            _results.Add(result);
            Started?.Invoke(result);
        }
    }

    public override async Task DisableAsync()
    {
        foreach ((_, StandingResult<TResult> standing) in _standing)
        {
            await standing.DisposeAsync().ConfigureAwait(false);
        }

        foreach (QueryResult<TResult> result in _results)
        {
            await result.Result.DisposeAsync().ConfigureAwait(false);
        }
    }
}

/// <summary>What came of one description in one process.</summary>
internal sealed record QueryResult<TResult>(ProbeDescription Description, TracedProcess Process, TResult Result)
    where TResult : ProbeResult;
