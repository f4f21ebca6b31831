namespace FastTrap;

/// <summary>What a tracer does for all of its processes at once.</summary>
public sealed partial class Tracer
{
    /// <summary>The standing enablings that were not disposed yet.</summary>
    public IReadOnlyList<StandingEnabling> StandingEnablings => _roster.Standing;

    /// <summary>
    /// Enables a description in all processes of this tracer, those that join later, the programs they execute and the libraries they load. It need not match anything yet.
    /// </summary>
    /// <param name="description">The pattern; a string converts. <c>pid*</c> or an empty provider mean every process.</param>
    /// <param name="options">What to do with hits; null: buffer them, in one buffer for all processes.</param>
    /// <param name="where">Which processes are concerned; null: all. Asked once for each program image, on a thread of the pool.</param>
    /// <param name="cancellationToken">Cancels before anything is changed.</param>
    /// <returns>When it is enabled in the processes that exist.</returns>
    /// <exception cref="ArgumentException">The buffer that the options ask for is too large.</exception>
    /// <exception cref="ObjectDisposedException">The tracer was disposed.</exception>
    public async Task<StandingEnabling> EnableAsync(
        ProbeDescription description, ProbeOptions? options = null, Func<TracedProcess, bool>? where = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(description);
        cancellationToken.ThrowIfCancellationRequested();
        StandingEnabling standing = Stand(description, options, where);

        // Who joins from here on sees it.
        await Task.WhenAll(Processes.Select(p => p.BringUpToDateAsync())).ConfigureAwait(false);
        return standing;
    }

    /// <summary>
    /// Enables a query in all processes of this tracer, those that join later, the programs they execute and the libraries they load. It need not match anything yet.
    /// </summary>
    /// <param name="query">A query of no process: it begins with <see cref="ProbeQuery.On"/>.</param>
    /// <param name="where">Which processes are concerned; null: all. Asked once for each program image, on a thread of the pool.</param>
    /// <param name="started">Told of each program image in which it is enabled, with what comes of it there, before that image executes more: to read records as they come. On a thread of the pool.</param>
    /// <param name="ended">
    /// Told of each of them that has ended (exited, or executed another program), with its complete result, which is not kept: on a thread of the pool. What has not ended by the disposal is in
    /// <see cref="StandingResult{TResult}.Members"/>.
    /// </param>
    /// <param name="cancellationToken">Cancels before anything is changed.</param>
    /// <typeparam name="TResult">What comes of the query.</typeparam>
    /// <returns>When it is enabled in the processes that exist.</returns>
    /// <exception cref="ArgumentException">The query belongs to a process, or a part cannot be compiled; the message names it.</exception>
    /// <exception cref="ObjectDisposedException">The tracer was disposed.</exception>
    public async Task<StandingResult<TResult>> EnableAsync<TResult>(
        ProbeQuery<TResult> query, Func<TracedProcess, bool>? where = null, Action<TracedProcess, TResult>? started = null, Action<TracedProcess, TResult>? ended = null,
        CancellationToken cancellationToken = default)
        where TResult : ProbeResult
    {
        ArgumentNullException.ThrowIfNull(query);
        if (query.Process is not null)
        {
            throw new ArgumentException($"The query belongs to process {query.Process.ProcessId}: begin one for all processes with ProbeQuery.On.", nameof(query));
        }

        cancellationToken.ThrowIfCancellationRequested();
        StandingResult<TResult> result = new(query, started, ended);
        ProbeOptions handled = new() { Buffered = false };
        foreach ((ProbeDescription description, IStandingConsumer consumer) in result.Begin())
        {
            result.Add(Stand(description, handled, where, consumer));
        }

        await Task.WhenAll(Processes.Select(p => p.BringUpToDateAsync())).ConfigureAwait(false);
        return result;
    }

    private StandingEnabling Stand(ProbeDescription description, ProbeOptions? options, Func<TracedProcess, bool>? where, IStandingConsumer? consumer = null)
    {
        StandingEnabling standing = new(_roster, _core.Enablings, description, options, where, consumer);
        _roster.Add(standing);
        _core.Enablings.Add(standing);
        return standing;
    }

    /// <summary>Tells what happens to the processes of this tracer from now on.</summary>
    /// <exception cref="ObjectDisposedException">The tracer was disposed.</exception>
    public ProcessEvents Subscribe() => _roster.Subscribe();
}
