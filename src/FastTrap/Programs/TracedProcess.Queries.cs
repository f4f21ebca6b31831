namespace FastTrap;

/// <summary>Queries on one process.</summary>
public sealed partial class TracedProcess
{
    /// <summary>Begins a query on the probes which match a description: what to learn from their hits, as data.</summary>
    public ProbeQuery On(ProbeDescription description)
    {
        ArgumentNullException.ThrowIfNull(description);
        return new ProbeQuery(this, description, []);
    }

    /// <summary>Enables several queries in one change of the target. If one of them matches nothing, none is enabled.</summary>
    /// <param name="queries">The queries, one at least, of this process or of none.</param>
    /// <param name="cancellationToken">Cancels until the target begins to be changed.</param>
    /// <typeparam name="TResult">What comes of each.</typeparam>
    /// <returns>One result for each query, in their order.</returns>
    /// <exception cref="ArgumentException">No query, one of another process, or a part cannot be compiled; the message names it.</exception>
    /// <exception cref="FastTrapException">A query matches nothing, or all it matches is refused, or the process has ended.</exception>
    public async Task<IReadOnlyList<TResult>> EnableAsync<TResult>(IReadOnlyList<ProbeQuery<TResult>> queries, CancellationToken cancellationToken = default)
        where TResult : ProbeResult
    {
        ArgumentNullException.ThrowIfNull(queries);
        List<(TResult Result, int Requests)> results = [];
        List<ProbeRequest> requests = [];
        foreach (ProbeQuery<TResult> query in queries)
        {
            ArgumentNullException.ThrowIfNull(query);
            if (query.Process is { } other && other != this)
            {
                throw new ArgumentException($"A query belongs to process {other.ProcessId}, not to {ProcessId}: begin it with ProbeQuery.On, or with On of this process.", nameof(queries));
            }

            TResult result = query.Compile(out IReadOnlyList<ProbeRequest> own);
            results.Add((result, own.Count));
            requests.AddRange(own);
        }

        IReadOnlyList<ProbeEnabling> enablings = await EnableAsync(requests, cancellationToken).ConfigureAwait(false);
        int next = 0;
        foreach ((TResult result, int count) in results)
        {
            for (int i = 0; i < count; i++)
            {
                result.Add(enablings[next++]);
            }
        }

        return [.. results.Select(r => r.Result)];
    }
}
