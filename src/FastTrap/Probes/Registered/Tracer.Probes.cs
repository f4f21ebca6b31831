namespace FastTrap;

/// <summary>The probes that a tracer knows, and its orderly end.</summary>
public sealed partial class Tracer
{
    /// <summary>
    /// The probe of a number, enabled or not; null if there is none, or the tracer has forgotten it. One whose process has gone is found until the last trace of that is cleaned up, and is not
    /// valid then (<see cref="Probe.IsValid"/>).
    /// </summary>
    public Probe? FindProbe(int id) => _core.Registry.Find(id);

    /// <summary>
    /// The valid probe of a full name, enabled or not. Probes are known from when they are first enabled. Of several functions of one name in a module, any one's; null if there is none.
    /// </summary>
    /// <param name="provider">With the process id: <c>pid42</c>.</param>
    /// <param name="module">The module's base name.</param>
    /// <param name="function">The function.</param>
    /// <param name="name">The probe's name.</param>
    /// <exception cref="ArgumentNullException">A part is null.</exception>
    public Probe? FindProbe(string provider, string module, string function, string name)
    {
        ArgumentNullException.ThrowIfNull(provider);
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(function);
        ArgumentNullException.ThrowIfNull(name);
        return _core.Registry.Find(provider, module, function, name);
    }

    /// <summary>
    /// Disposes the tracer unless it is in use, that is, unless in any process a probe is enabled, or being enabled, or a source of probes stands behind a provider. False: it is in use, and goes on as if nothing had been asked. True: it is
    /// disposed, as by <see cref="DisposeAsync"/>.
    /// </summary>
    /// <remarks>Source: fasttrap.c, fasttrap_unload.</remarks>
    public async Task<bool> TryShutdownAsync()
    {
        if (!_core.TryClose())
        {
            return false;
        }

        await DisposeAsync().ConfigureAwait(false);
        return true;
    }

    /// <summary>Cleans up after all processes, within what is left of the time for a dispose.</summary>
    private async Task DisposeEngineAsync(Task released, IReadOnlyList<TracedProcess> processes)
    {
        TimeSpan limit = _core.Options.DisposeTimeout;
        using CancellationTokenSource timer = new();
        if (await Task.WhenAny(released, Task.Delay(limit, timer.Token)).ConfigureAwait(false) != released)
        {
            // A handler does not return. The thread it stopped cannot be saved; all others can.
            TracedProcess[] left = [.. processes.Where(p => !p.Completion.IsCompleted)];
            foreach (TracedProcess process in left)
            {
                process.RestoreBytes();
            }

            Control.Log.DisposeIncomplete(_core.Logger, left.Length);
        }
        else
        {
            await timer.CancelAsync().ConfigureAwait(false);
            await released.ConfigureAwait(false);
            await Task.Run(() => _core.Cleaner.Drain(limit)).ConfigureAwait(false);
        }

        Engine.EngineMetrics.Remove(_core);
    }
}
