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
        StandingEnabling standing = new(_roster, _core.Enablings, description, options, where);
        _roster.Add(standing);
        _core.Enablings.Add(standing);

        // Who joins from here on sees it.
        await Task.WhenAll(Processes.Select(p => p.BringUpToDateAsync())).ConfigureAwait(false);
        return standing;
    }

    /// <summary>Tells what happens to the processes of this tracer from now on.</summary>
    /// <exception cref="ObjectDisposedException">The tracer was disposed.</exception>
    public ProcessEvents Subscribe() => _roster.Subscribe();
}
