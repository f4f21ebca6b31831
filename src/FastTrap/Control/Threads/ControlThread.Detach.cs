using System.Diagnostics;
using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Taking the threads of a process out of its stops and our memory, and letting go of them.</summary>
/// <remarks>
/// Scheme. (1) The text is restored. (2) Reports that wait are taken: a thread that ran into a trap which has just gone restarts its instruction.
/// (3) Threads asleep in a system call outside our memory need nothing where the operating-system thread ends with this process: its end releases
/// them, undisturbed. Where it goes on for other processes, they are interrupted, and their calls restarted as if nothing had been. (4) The others are
/// interrupted, moved out of our memory and detached one by one. (5) Before the last of them goes it unmaps
/// our memory; if all threads sleep, the first whose system call restarts unseen is asked. (6) Who did not stop in time, or waits for a vfork child and cannot,
/// is let go with its next report, or with the end of the operating-system thread.
/// </remarks>
internal sealed partial class ControlThread
{
    /// <param name="process">The process, whose text is restored first.</param>
    /// <param name="kind">Whether it is to stand afterwards.</param>
    /// <param name="leavesSleepers">Whether the end of this thread follows, which releases who sleeps.</param>
    private void Detach(ProcessHandle process, ReleaseKind kind, bool leavesSleepers)
    {
        ITrapHandler? handler = process.Handler;
        handler?.BeginRelease();
        handler?.RestoreText();
        process.ControlBreakpoints.RemoveAll(_logger);
        bool hadTraps = handler is not null || process.ControlBreakpoints.WasUsed;
        using Urgency urgency = BeUrgent();
        _stoppedSignal.Clear();
        _detaching = process;
        try
        {
            bool all = StopAll(process, handler, hadTraps, leavesSleepers);
            foreach (int id in _stoppedSignal.Keys.ToArray())
            {
                if (process.Tasks.TryGetValue(id, out TracedTask? task))
                {
                    all &= MoveOutOfLine(process, handler, task);
                }
            }

            if (hadTraps)
            {
                CleanUp(process, handler?.AreasToUnmap ?? [], mayUnmap: all);
            }

            if (kind == ReleaseKind.LeaveStopped && !process.IsOver && _platform.Kill(process.ProcessId, Signal.SIGSTOP) is var error and not Errno.None)
            {
                // All its threads stand, so none does anything before it finds the signal.
                Log.NotLeftStopped(_logger, process.ProcessId, (int)error);
            }
        }
        finally
        {
            // Whatever failed, nobody is left standing.
            foreach ((int id, int signal) in _stoppedSignal)
            {
                _tasks.Remove(id);
                if (process.Tasks.Remove(id))
                {
                    _platform.Detach(id, signal);
                }
            }

            _stoppedSignal.Clear();
            _detaching = null;
        }

        handler?.OnAddressSpaceGone();
        process.ControlBreakpoints.Forget();
    }

    /// <summary>Stops whoever has to be stopped; false if somebody did not in time.</summary>
    private bool StopAll(ProcessHandle process, ITrapHandler? handler, bool hadTraps, bool leavesSleepers)
    {
        long start = Stopwatch.GetTimestamp();

        // Held and listening threads are stopped already.
        foreach (TracedTask task in process.Tasks.Values)
        {
            if (task.State == TaskState.Stopped)
            {
                _stoppedSignal.TryAdd(task.ThreadId, task.StandingSignal);
            }
        }

        PumpPendingReports(process);
        foreach (TracedTask task in process.Tasks.Values.ToArray())
        {
            // A thread stopped by job control may stand in our memory; it is stopped the same way after the detach.
            bool isToStop = task.State == TaskState.Listening
                ? handler?.MappedAreas.Count > 0 || !leavesSleepers
                : task.State == TaskState.Running && !IsLeftAlone(process, task, leavesSleepers);
            if (isToStop)
            {
                Interrupt(task);
            }
        }

        bool all = PumpUntil(
            () => !process.Tasks.Values.Any(t => t.State != TaskState.Stopped && t.InterruptPending) && !IsAnybodyAwaited(process),
            _detachTimeout - Stopwatch.GetElapsedTime(start));
        if (!all)
        {
            Log.DetachIncomplete(_logger, process.ProcessId, process.Tasks.Values.Count(t => t.InterruptPending));
        }

        if (hadTraps)
        {
            TakePendingTraps(process);
        }

        return all;
    }

    /// <summary>
    /// An interruption is reported before a trap that the thread has executed already: the signal of that trap still waits, and would kill the
    /// thread once nobody traces it. It is taken now; the thread executes nothing on the way.
    /// </summary>
    private void TakePendingTraps(ProcessHandle process)
    {
        List<TracedTask> continued = [];
        foreach ((int id, int signal) in _stoppedSignal.ToArray())
        {
            if (signal == 0 && process.Tasks.TryGetValue(id, out TracedTask? task) && !task.HasUnansweredTrap && !task.IsHeld
                && PendingTrap.IsDue(_platform, id))
            {
                _stoppedSignal.Remove(id);
                task.State = TaskState.Running;
                if (_platform.Continue(id, 0) == Errno.None)
                {
                    continued.Add(task);
                }
            }
        }

        PumpUntil(() => continued.TrueForAll(t => t.State != TaskState.Running || !process.Tasks.ContainsKey(t.ThreadId)), _detachTimeout);
    }

    /// <summary>Takes the reports of one process. Of others there may be reports without end, so where there are others each thread is asked by name.</summary>
    private void PumpPendingReports(ProcessHandle process)
    {
        if (_tasks.Count == process.Tasks.Count)
        {
            int id;
            while ((id = Take(-1, block: false, out WaitStatus status)) > 0)
            {
                OnReport(id, status);
            }

            return;
        }

        foreach (int id in process.Tasks.Where(t => t.Value.State != TaskState.Stopped).Select(t => t.Key).ToArray())
        {
            if (Take(id, block: false, out WaitStatus status) == id)
            {
                OnReport(id, status);
            }
        }
    }

    private void Interrupt(TracedTask task)
    {
        if (task.Process.Architecture == Architecture.Arm64)
        {
            task.CallBeforeInterrupt = ProcSystemCall.TryRead(_platform, task.Process.ProcessId, task.ThreadId, out ProcSystemCall call, out _) ? call : default;
        }

        if (_platform.Interrupt(task.ThreadId) == Errno.None)
        {
            task.InterruptPending = true;
        }
    }

    /// <summary>Who sleeps, if sleepers are left to the end of this thread; and who waits for a vfork child, for it cannot stop.</summary>
    private bool IsLeftAlone(ProcessHandle process, TracedTask task, bool leavesSleepers) => leavesSleepers
        ? IsAsleepOutsideOurMemory(process, task)
        : IsWaitingForVisitor(process, task);

    private bool IsWaitingForVisitor(ProcessHandle process, TracedTask task) =>
        task.IsAtVfork && ProcSystemCall.TryRead(_platform, process.ProcessId, task.ThreadId, out ProcSystemCall call, out _)
        && !call.IsRunning && IsFork(process.Architecture, call.Number);

    private bool IsAsleepOutsideOurMemory(ProcessHandle process, TracedTask task) =>
        ProcSystemCall.TryRead(_platform, process.ProcessId, task.ThreadId, out ProcSystemCall call, out _)
        && !call.IsRunning && call.Number >= 0 && (task.IsAtVfork || !IsFork(process.Architecture, call.Number))
        && process.Handler?.IsOutOfLine(call.ProgramCounter) != true;

    /// <summary>A stopped thread's registers are put to where they would be without us, and what we hold of it is given back. False if it stays in memory of ours.</summary>
    private bool MoveOutOfLine(ProcessHandle process, ITrapHandler? handler, TracedTask task)
    {
        _registers = new RegisterSet(process.Architecture);
        if (_platform.GetRegisters(task.ThreadId, ref _registers) != Errno.None)
        {
            return true;
        }

        if (_stoppedSignal.TryGetValue(task.ThreadId, out int fault) && fault is Signal.SIGSEGV or Signal.SIGBUS && handler?.TrySkipLoad(ref _registers) == true)
        {
            _platform.SetRegisters(task.ThreadId, _registers);
            _stoppedSignal[task.ThreadId] = 0;
            RestoreFault(task, fault);
        }

        ulong trapAddress = process.Architecture == Architecture.X64 ? _registers.ProgramCounter - 1 : _registers.ProgramCounter;
        if (task.HasUnansweredTrap && (handler?.WasTrap(trapAddress) == true || process.ControlBreakpoints.WasTrap(trapAddress)))
        {
            _registers.ProgramCounter = trapAddress;
            _platform.SetRegisters(task.ThreadId, _registers);
        }
        else if (handler?.IsOutOfLine(_registers.ProgramCounter) == true)
        {
            if (handler.IsToStepOut(_registers.ProgramCounter)
                && (StepOut(handler, task) != StepEnd.Out || _platform.GetRegisters(task.ThreadId, ref _registers) != Errno.None))
            {
                SendHeldBehind(task);
                return false;
            }

            handler.LeaveOutOfLine(task, ref _registers);
            _platform.SetRegisters(task.ThreadId, _registers);
            SendHeldBehind(task);
        }

        if (task.HeldSignal.si_signo != 0)
        {
            _platform.SetSignalMask(task.ThreadId, task.HeldMask);
            RemoteMap.SendAgain(process, task, task.HeldSignal);
            task.HeldSignal = default;
            SendHeldBehind(task);
        }

        if (task.WasInterrupted && _stoppedSignal.TryGetValue(task.ThreadId, out int signal) && signal == 0)
        {
            RestartIfOnlyWeInterrupted(process, task);
        }

        return true;
    }

    /// <summary>Before the last thread goes: the target's action for SIGTRAP is put back, our memory unmapped.</summary>
    private void CleanUp(ProcessHandle process, IReadOnlyList<(ulong Start, ulong Length)> areas, bool mayUnmap)
    {
        bool isAction = process.TrapDisposition is { IsKnown: true } && process.Handler?.KeepsTrapAction != true;
        if (!isAction && areas.Count == 0)
        {
            return;
        }

        if (FindWorker(process) is not { } worker)
        {
            Log.AreasLeft(_logger, process.ProcessId, areas.Count);
            return;
        }

        if (isAction && process.TrapDisposition!.End(process, worker) is var error and not Errno.None)
        {
            Log.DispositionNotRestored(_logger, process.ProcessId, (int)error);
        }

        if (!mayUnmap && areas.Count != 0)
        {
            // A thread that did not stop may come back to it.
            Log.AreasLeft(_logger, process.ProcessId, areas.Count);
            return;
        }

        process.Handler?.OnEverybodyOut();
        foreach ((ulong start, ulong length) in areas)
        {
            if (RemoteMap.Unmap(process, worker, start, length) != Errno.None)
            {
                Log.AreasLeft(_logger, process.ProcessId, areas.Count);
                return;
            }
        }
    }
}
