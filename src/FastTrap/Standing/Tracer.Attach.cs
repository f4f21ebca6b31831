using FastTrap.Control;

namespace FastTrap;

/// <summary>How processes come to a tracer.</summary>
public sealed partial class Tracer
{
    private readonly object _attachGate = new();
    private readonly Dictionary<int, Task<TracedProcess>> _attaching = [];

    /// <summary>The process, attached to now, or already: then with one more reference.</summary>
    private async Task<TracedProcess> GrabAsync(int processId, AttachOptions options)
    {
        while (true)
        {
            TracedProcess? known;
            Task<TracedProcess>? attach = null;
            Task end = Task.CompletedTask;
            bool isNew = false;
            lock (_attachGate)
            {
                ObjectDisposedException.ThrowIf(_roster.IsClosed, this);
                known = _roster.Find(processId);
                if (known?.TryAddReference(out end) != true)
                {
                    known = null;
                    if (!_attaching.TryGetValue(processId, out attach) && end.IsCompleted)
                    {
                        attach = Task.Run(() => StartAsync((thread, observer) => thread.Attach(processId, observer, options.FollowChildren), killOnDispose: false));
                        _attaching.Add(processId, attach);
                        isNew = true;
                    }
                }
            }

            if (known is not null)
            {
                await known.FollowAsync(options.FollowChildren).ConfigureAwait(false);
                return known;
            }

            if (attach is null)
            {
                // It is being released.
                await end.ConfigureAwait(false);
                continue;
            }

            try
            {
                TracedProcess process = await attach.ConfigureAwait(false);
                if (isNew || process.TryAddReference(out _))
                {
                    return process;
                }
            }
            finally
            {
                if (isNew)
                {
                    lock (_attachGate)
                    {
                        _attaching.Remove(processId);
                    }
                }
            }
        }
    }

    private async Task<TracedProcess> StartAsync(Func<ControlThread, IProcessObserver, ProcessHandle> start, bool killOnDispose)
    {
        ObjectDisposedException.ThrowIf(_roster.IsClosed, this);
        ControlThread thread = new(_core.Platform, _core.Options, _core.Logger);
        _core.Barrier.Add(thread.Passes);
        ProcessStart begin = new(_roster, _core, killOnDispose);
        TracedProcess process;
        try
        {
            process = await thread.InvokeAsync(() => begin.GetProcess(start(thread, begin))).ConfigureAwait(false);
        }
        catch
        {
            // Whatever was seized or started goes with the thread.
            await thread.AbandonAsync().ConfigureAwait(false);
            begin.Abandon();
            throw;
        }

        if (!begin.IsAdded)
        {
            await process.CloseAsync().ConfigureAwait(false);
            throw new ObjectDisposedException(nameof(Tracer));
        }

        // A view shows the traps that may be written from now on.
        _views.MakeStale(process.ProcessId);
        process.Reclaimer = () => ReclaimAsync(process.ProcessId);
        if (!process.WasCreated)
        {
            await process.CleanAsync().ConfigureAwait(false);
        }

        await process.BringUpToDateAsync().ConfigureAwait(false);
        return process;
    }
}
