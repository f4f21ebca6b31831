using FastTrap.Control;
using FastTrap.Engine;
using FastTrap.Engine.Mechanisms;

namespace FastTrap;

/// <summary>What outlives a tracer, and its removal.</summary>
public sealed partial class TracedProcess
{
    private volatile bool _isLetGo;
    private Task? _reclaiming;

    /// <summary>Attaches to the process anew and detaches, by a tracer of its own.</summary>
    internal Func<Task>? Reclaimer { get; set; }

    /// <summary>What an earlier tracer had left in the process, removed by the attach; null if there was nothing.</summary>
    public ProcessLeftovers? Leftovers { get; private set; }

    /// <summary>Whether it was let go of with its probes in place (<see cref="LetGoAsync"/>).</summary>
    public bool IsLetGo => _isLetGo;

    /// <summary>
    /// Ends control, not recording: the process is detached from, its threads run untraced, a debugger can attach, and its queries count and record on; their results are read as before. Their probes go when a result, or this
    /// object, is disposed, or when anybody attaches to the process again: for that moment it is traced once more. Fork children do not record. Disposing the tracer leaves the process as it is.
    /// </summary>
    /// <exception cref="FastTrapException">
    /// <see cref="FastTrapError.NeedsTracer"/>: some probes need the tracer, of which the message names the first; nothing was changed. Or the process has ended.
    /// </exception>
    /// <exception cref="InvalidOperationException">Called by one of the library's handlers, on the control thread.</exception>
    public async Task LetGoAsync()
    {
        RequireOtherThread();
        ProcessImage image = Image;
        if (image.ProcOrNull is { } proc)
        {
            string? problem = null;
            await _handle.Thread.RunSlicedAsync(_handle, proc.LetGo(reason => problem = reason)).ConfigureAwait(false);
            if (problem is not null)
            {
                throw new FastTrapException(FastTrapError.NeedsTracer, $"Process {ProcessId} cannot be let go of: {problem}.", ProcessId);
            }
        }

        _isLetGo = true;
        EmergencyRelease.Remove(this);
        await _handle.Thread.ReleaseAsync(_handle, ReleaseKind.Run).ConfigureAwait(false);
        _roster.Remove(this);
    }

    /// <summary>Of a process that was let go of: its probes are removed, by an attach, unless somebody has done that since. Once, whoever asks.</summary>
    /// <exception cref="FastTrapException">It cannot be attached to; a debugger may have it.</exception>
    internal Task ReclaimAsync()
    {
        using (_gate.Enter())
        {
            return _reclaiming ??= Task.Run(AttachAgainAsync);
        }
    }

    private async Task AttachAgainAsync()
    {
        if (_roster.Find(ProcessId) is { _handle.IsOver: false }
            || !FastTrap.Native.ProcStat.TryRead(_core.Platform, ProcessId, out FastTrap.Native.ProcStat stat, out _) || stat.StartTime != _handle.StartTime)
        {
            return;
        }

        try
        {
            await Reclaimer!().ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.NoSuchProcess or FastTrapError.Zombie or FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // It ended, and all went with it.
        }
    }

    /// <summary>Removes what an earlier tracer has left, before anything else is done. What cannot be understood is not touched, and the process is let go of.</summary>
    internal async Task CleanAsync()
    {
        if (!Engine.Mechanisms.Leftovers.TryFind(_core.Platform, ProcessId, out Leftovers? found, out string? problem))
        {
            // It has ended: whoever asks for something is told so.
            return;
        }

        if (problem is not null)
        {
            await CloseAsync().ConfigureAwait(false);
            throw new FastTrapException(
                FastTrapError.LeftoversNotUnderstood,
                $"An earlier tracer has left something in process {ProcessId}, and {problem}. Nothing of it was touched: it may be another version's, which can remove it, or the process has overwritten it and is best restarted.",
                ProcessId);
        }

        if (found is null)
        {
            return;
        }

        CleaningResult result = new();
        try
        {
            ProcessImage image = Image;
            Proc proc = image.GetProc();
            await _handle.Thread.RunSlicedAsync(_handle, Clean(image, proc, found, result)).ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // It went with the process.
            return;
        }
        catch (FastTrapException)
        {
            await CloseAsync().ConfigureAwait(false);
            throw;
        }

        if (result.Problem is { } refusal)
        {
            await CloseAsync().ConfigureAwait(false);
            throw new FastTrapException(FastTrapError.LeftoversNotUnderstood, $"An earlier tracer has left something in process {ProcessId}, and {refusal}. Nothing of it was touched.", ProcessId);
        }

        Leftovers = new ProcessLeftovers(found.OwnerProcessId, found.IsOwnerAlive, result.Sites, result.Regions, result.RegionsLeft);
        Log.LeftoversRemoved(_core.Logger, ProcessId, found.OwnerProcessId, result.Sites, result.Regions, result.RegionsLeft);
    }

    /// <summary>Control thread.</summary>
    private IEnumerator<bool> Clean(ProcessImage image, Proc proc, Leftovers found, CleaningResult result)
    {
        if (Image != image)
        {
            // Another program, whose memory is new.
            yield break;
        }

        _handle.Handler = proc;
        _handle.Thread.PrepareAside();
        _handle.Thread.SeizeRest(_handle);
        using IEnumerator<bool> steps = proc.Jump.Clean(found, result);
        while (steps.MoveNext())
        {
            yield return true;
        }
    }
}
