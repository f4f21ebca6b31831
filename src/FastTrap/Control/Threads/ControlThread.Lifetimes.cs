using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>How threads and processes execute and end.</summary>
internal sealed partial class ControlThread
{
    private void OnTaskEnded(ProcessHandle process, TracedTask task, WaitStatus status)
    {
        if (task.ThreadId == process.ProcessId)
        {
            ClaimFor(process);
        }

        Remove(task);
        if (task.ThreadId == process.ProcessId)
        {
            // The leader is reported last, and for the whole process.
            Log.ProcessEnded(_logger, process.ProcessId, status.Value);
            ForgetImage(process);
            Complete(process, status.Exited
                ? new ProcessExit(ProcessExitKind.Exited, status.ExitCode, 0)
                : new ProcessExit(ProcessExitKind.Killed, 0, status.TerminatingSignal));
        }
        else if (process.Tasks.Count == 0 && !process.IsOver)
        {
            OnLost(process);
        }

        if (process.Tasks.Count == 0)
        {
            OnGone(process);
        }
    }

    /// <summary>Tells of the end of a process, once, and ends it: who waits for the end finds everything told.</summary>
    private void Complete(ProcessHandle process, ProcessExit exit)
    {
        if (!process.IsOver)
        {
            Notify(process, null, observer => observer.OnEnded(process, exit));
            process.Complete(exit);
        }
    }

    /// <summary>Nobody of it is left.</summary>
    private void OnGone(ProcessHandle process)
    {
        ForgetImage(process);
        _processes.Remove(process);
    }

    /// <summary>
    /// The process has left its memory. If visitors live on in it, they must get past the traps. And what was opened, and written, between an exec and its report stands in the
    /// new program: nobody would know these traps.
    /// </summary>
    private void ForgetImage(ProcessHandle process, bool hasExecuted = false)
    {
        if (hasExecuted || process.Tasks.Values.Any(t => t.IsVisitor))
        {
            process.Handler?.RestoreText();
            process.ControlBreakpoints.RemoveAll(_logger);
        }

        process.Handler?.OnAddressSpaceGone();
        process.ControlBreakpoints.Forget();
        process.SystemCallAddress = 0;
        process.Escape = default;
        process.TrapDisposition = null;
        process.FaultDispositions = [];
    }

    private void OnLost(ProcessHandle process)
    {
        ForgetImage(process);
        Log.ProcessLost(_logger, process.ProcessId);
        Complete(process, new ProcessExit(ProcessExitKind.Lost, 0, 0));
    }

    /// <summary>The kernel says that we trace nobody, though we did not see the ends.</summary>
    private void OnNothingTraced()
    {
        _tasks.Clear();
        _unclaimed.Clear();
        _awaited.Clear();
        foreach (ProcessHandle process in _processes.ToArray())
        {
            process.Tasks.Clear();
            if (!process.IsOver)
            {
                OnLost(process);
            }

            OnGone(process);
        }
    }

    private void OnExec(ProcessHandle process, TracedTask task)
    {
        if (task.IsVisitor)
        {
            OnVisitorExecuted(process, task);
            return;
        }

        ClaimFor(process);
        foreach (TracedTask other in process.Tasks.Values.Where(t => !t.IsVisitor).ToArray())
        {
            Remove(other);
        }

        ForgetImage(process, hasExecuted: true);
        process.Handler = null;

        // A thread that was held, or hit something, is not this one.
        TracedTask leader = new(process.ProcessId, process) { State = TaskState.Stopped, LastRound = _round, KnownMask = ReadMask(process.ProcessId) };
        Add(leader);
        OnNewProgram(process, task, leader);
    }

    /// <summary>The leader stands at the exec; it, or who had its id before, was <paramref name="old"/>.</summary>
    private void OnNewProgram(ProcessHandle process, TracedTask old, TracedTask leader)
    {
        if (old.HeldSignal.si_signo != 0)
        {
            // Signals that wait, and the mask, outlive an exec.
            leader.KnownMask = old.HeldMask;
            _platform.SetSignalMask(leader.ThreadId, old.HeldMask);
            foreach (SignalInfo signal in (SignalInfo[])[old.HeldSignal, .. old.HeldBehind ?? []])
            {
                RemoteMap.SendAgain(process, leader, signal);
            }
        }

        if (!IsObservable(process, out string reason))
        {
            LoseControl(process, leader, reason);
            return;
        }

        if (process.ExecutedBeforeStart is { } executed)
        {
            executed();
        }
        else
        {
            Notify(process, leader, observer => observer.OnExecuted(process));
        }

        RenewLinkerWatch(process);
        Resume(leader, 0);
    }

    /// <summary>A vfork child that goes its own way: nothing of ours is in its new program.</summary>
    private void OnVisitorExecuted(ProcessHandle process, TracedTask task)
    {
        Remove(task);
        if (IsFollowed(process))
        {
            TracedTask leader = Announce(process, task.ThreadId, ReadMask(task.ThreadId));
            OnNewProgram(leader.Process, task, leader);
        }
        else
        {
            _platform.Detach(task.ThreadId, 0);
        }

        if (process.IsOver && process.Tasks.Count == 0)
        {
            OnGone(process);
        }
    }

    /// <summary>Whether the program that was executed is one we can read, of the architecture the process had.</summary>
    private bool IsObservable(ProcessHandle process, out string reason)
    {
        reason = "";
        _registers = new RegisterSet(process.Architecture);
        if (_platform.GetRegisters(process.ProcessId, ref _registers) == Errno.EINVAL)
        {
            reason = "it is a 32-bit program";
            return false;
        }

        try
        {
            if (AttachDiagnosis.ReadArchitecture(_platform, process.ProcessId) == process.Architecture)
            {
                return true;
            }

            reason = "it is a program of another architecture";
            return false;
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.UnsupportedArchitecture or FastTrapError.PermissionDenied or FastTrapError.InvalidFile)
        {
            reason = e.Message;
            return false;
        }
        catch (FastTrapException)
        {
            // Killed meanwhile, which is reported next, or this tracer has no descriptor left: the kernel has answered for the registers.
            return true;
        }
    }

    /// <summary>Ends the control of a process which executed what we cannot handle: it runs on by itself.</summary>
    private void LoseControl(ProcessHandle process, TracedTask leader, string reason)
    {
        Log.Unobservable(_logger, process.ProcessId, reason);
        Remove(leader);
        _platform.Detach(leader.ThreadId, 0);
        Complete(process, new ProcessExit(ProcessExitKind.Unobservable, 0, 0));
        if (process.Tasks.Count == 0)
        {
            OnGone(process);
        }
    }

    /// <summary>
    /// Tells the observer, whose exceptions are its own affair; false if there is none or it failed. A thread that stands does so until this returns, whatever
    /// the observer does with its own hold.
    /// </summary>
    private bool Notify(ProcessHandle process, TracedTask? standing, Action<IProcessObserver> tell)
    {
        if (process.Observer is not { } observer)
        {
            return false;
        }

        standing?.Hold();
        try
        {
            tell(observer);
            return true;
        }
        catch (Exception e)
        {
            Log.ObserverFailed(_logger, e, process.ProcessId);
            return false;
        }
        finally
        {
            if (standing is not null)
            {
                standing.Holds--;
            }
        }
    }
}
