using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Letting a process go, and the end of the thread.</summary>
/// <remarks>
/// Scheme. A release is work for the process, and the last: with the last process that nobody is about to release, the thread ends. Processes whose releases
/// were announced (<see cref="ProcessHandle.AnnounceRelease"/>) count as released here, so that of a tree that is let go as a whole no sleeping thread is disturbed.
/// Source: dt_proc.c, dt_proc_destroy.
/// </remarks>
internal sealed partial class ControlThread
{
    private bool KillsWithThread => (_options & PtraceOptions.ExitKill) != 0;

    /// <summary>Lets a process go; on return the kernel has, but for threads which did not stop in time. Any thread but this one.</summary>
    public async Task ReleaseAsync(ProcessHandle process, ReleaseKind kind)
    {
        process.AnnounceRelease();
        CallWork<bool> work = new(process, () => ReleaseNow(process, kind)) { IsRelease = true };
        Post(work);
        try
        {
            await work.Task.ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // It ended by itself.
        }

        if (process.EndsWithThread || _closed)
        {
            await WaitForEndAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Ends the control thread of an attach that failed; the kernel releases what was seized, and what was created is killed.</summary>
    public async Task AbandonAsync()
    {
        try
        {
            await InvokeAsync(AbandonProcesses).ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // It ended by itself, and this thread with it: the caller knows better why.
        }

        await WaitForEndAsync().ConfigureAwait(false);
    }

    private bool AbandonProcesses()
    {
        // Children that were followed live on, clean.
        foreach (ProcessHandle process in _processes.Where(p => p is { WasCreated: true, IsOver: false }).ToArray())
        {
            _platform.Kill(process.ProcessId, Signal.SIGKILL);
            PumpUntil(() => process.IsOver, _detachTimeout);
        }

        foreach (ProcessHandle process in _processes.Where(p => !p.IsOver).ToArray())
        {
            ReleaseNow(process, ReleaseKind.Run);
        }

        _ending = true;
        return true;
    }

    private bool ReleaseNow(ProcessHandle process, ReleaseKind kind)
    {
        if (kind == ReleaseKind.Kill && !process.IsOver)
        {
            Errno error = _platform.Kill(process.ProcessId, Signal.SIGKILL);
            if (error is Errno.None or Errno.ESRCH)
            {
                PumpUntil(() => process.IsOver, _detachTimeout);
            }
            else
            {
                // One that has made itself another user's.
                Log.NotKilled(_logger, process.ProcessId, (int)error);
            }
        }

        if (!_processes.Contains(process))
        {
            return true;
        }

        process.EndsWithThread = _processes.TrueForAll(p => p == process || p.IsReleaseAnnounced || p.IsOver);
        try
        {
            // With the option to die with this thread, nobody may be left to its end.
            Detach(process, kind, leavesSleepers: process.EndsWithThread && kind != ReleaseKind.LeaveStopped && !KillsWithThread);
            process.IsReleased = true;
            LetGoOfTheRest(process);
            if (!process.IsOver)
            {
                Log.Detached(_logger, process.ProcessId);
            }
        }
        finally
        {
            // Whatever failed, a logger for one: the kernel releases the rest when this thread ends.
            process.IsReleased = true;
            _processes.Remove(process);
            _ending |= _processes.TrueForAll(p => p.IsOver);
            Complete(process, new ProcessExit(ProcessExitKind.Detached, 0, 0));
        }

        return true;
    }

    /// <summary>
    /// Who waits for a vfork child, or did not stop in time: it is asked to stop where it can, and let go then. If the end of this thread would
    /// kill it, that is waited for.
    /// </summary>
    private void LetGoOfTheRest(ProcessHandle process)
    {
        if (!process.EndsWithThread || KillsWithThread)
        {
            foreach (TracedTask task in process.Tasks.Values)
            {
                Interrupt(task);
            }
        }

        if (KillsWithThread)
        {
            PumpUntil(() => process.Tasks.Count == 0, _detachTimeout);
        }
    }

    /// <summary>A thread of a process that was released has something to report: it is let go.</summary>
    private void OnStopAfterRelease(TracedTask task, WaitStatus status)
    {
        if (status.Event is PtraceEvent.Fork or PtraceEvent.Vfork or PtraceEvent.Clone)
        {
            Expect(task);
        }

        if (task.WasInterrupted)
        {
            RestartIfOnlyWeInterrupted(task.Process, task);
        }

        bool isSignal = status.Event == PtraceEvent.None && !status.IsSystemCallStop;
        Remove(task);
        _platform.Detach(task.ThreadId, isSignal ? status.StopSignal : 0);
    }
}
