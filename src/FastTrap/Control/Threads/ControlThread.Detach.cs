using System.Diagnostics;
using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Letting a process go.</summary>
/// <remarks>
/// Scheme. (1) The text is restored. (2) Reports that wait are taken: a thread that ran into a trap which has just gone restarts its instruction.
/// (3) Threads asleep in a system call outside our memory need nothing: they are released, undisturbed, when this operating-system
/// thread ends. (4) The others are interrupted, moved out of our memory and detached one by one. (5) Before the last of them goes it unmaps
/// our memory; if all threads sleep, the first whose system call restarts unseen is asked.
/// </remarks>
internal sealed partial class ControlThread
{
    private readonly Dictionary<int, int> _stoppedSignal = [];

    /// <summary>Detaches from the process and ends the control thread.</summary>
    public void DetachAndEnd()
    {
        ProcessHandle process = Process!;
        try
        {
            if (!process.IsOver)
            {
                Detach(process);
                process.Complete(new ProcessExit(ProcessExitKind.Detached, 0, 0));
                Log.Detached(_logger, process.ProcessId);
            }
        }
        finally
        {
            // Whatever failed, a logger for one: the kernel releases the rest when this thread ends.
            _ending = true;
        }
    }

    /// <summary>Ends the control thread of an attach that failed; the kernel releases what was seized, and what was created is killed.</summary>
    public async Task AbandonAsync()
    {
        try
        {
            await InvokeAsync(AbandonProcess).ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // It ended by itself, and this thread with it: the caller knows better why.
        }

        await WaitForEndAsync().ConfigureAwait(false);
    }

    private bool AbandonProcess()
    {
        if (Process is { WasCreated: true, IsOver: false } process)
        {
            _platform.Kill(process.ProcessId, Signal.SIGKILL);
            PumpUntil(() => process.IsOver, _detachTimeout);
        }

        _ending = true;
        return true;
    }

    private void Detach(ProcessHandle process)
    {
        ITrapHandler? handler = process.Handler;
        handler?.RestoreText();
        foreach (ControlBreakpoint breakpoint in process.ControlBreakpoints.Values)
        {
            RemoveControlBreakpoint(process, breakpoint);
        }

        process.ControlBreakpoints.Clear();
        long start = Stopwatch.GetTimestamp();
        _detaching = true;

        // Held and listening threads are stopped already.
        foreach (TracedTask task in process.Tasks.Values)
        {
            if (task.State == TaskState.Stopped && !_stoppedSignal.ContainsKey(task.ThreadId))
            {
                _stoppedSignal[task.ThreadId] = 0;
            }
        }

        PumpPendingReports();
        foreach (TracedTask task in process.Tasks.Values.ToArray())
        {
            // A thread stopped by job control may stand in our memory; it is stopped the same way after the detach.
            if (task.State == TaskState.Listening ? handler?.MappedAreas.Count > 0 : task.State == TaskState.Running && !IsAsleepOutsideOurMemory(process, task))
            {
                Interrupt(task);
            }
        }

        bool all = PumpUntil(
            () => !process.Tasks.Values.Any(t => t.State != TaskState.Stopped && t.InterruptPending) && !IsAnybodyAwaited(), _detachTimeout - Stopwatch.GetElapsedTime(start));
        if (!all)
        {
            Log.DetachIncomplete(_logger, process.ProcessId, process.Tasks.Values.Count(t => t.InterruptPending));
        }

        if (handler is not null)
        {
            TakePendingTraps(process);
        }

        foreach (int id in _stoppedSignal.Keys.ToArray())
        {
            if (process.Tasks.TryGetValue(id, out TracedTask? task) && handler is not null)
            {
                MoveOutOfLine(process, handler, task);
            }
        }

        if (handler is not null)
        {
            CleanUp(process, handler, mayUnmap: all);
        }

        foreach ((int id, int signal) in _stoppedSignal)
        {
            if (process.Tasks.Remove(id))
            {
                _platform.Detach(id, signal);
            }
        }

        _stoppedSignal.Clear();
        handler?.OnAddressSpaceGone();
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
                && ProcStatus.TryRead(_platform, id, out ProcStatus? status, out _) && (status!.SigPnd & Signal.Bit(Signal.SIGTRAP) & ~status.SigBlk) != 0)
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

    private void PumpPendingReports()
    {
        int id;
        while ((id = _platform.Wait(-1, block: false, out WaitStatus status)) > 0)
        {
            OnReport(id, status);
        }
    }

    private void Interrupt(TracedTask task)
    {
        if (_platform.Interrupt(task.ThreadId) == Errno.None)
        {
            task.InterruptPending = true;
        }
    }

    /// <summary>Whether a child was announced that is ours and has not been seen: it may have our traps.</summary>
    private bool IsAnybodyAwaited()
    {
        _awaited.RemoveWhere(id => !IsOurs(id));
        return _awaited.Count != 0;
    }

    private bool IsAsleepOutsideOurMemory(ProcessHandle process, TracedTask task) =>
        ProcSystemCall.TryRead(_platform, process.ProcessId, task.ThreadId, out ProcSystemCall call, out _)
        && !call.IsRunning && call.Number >= 0 && (task.IsAtVfork || !IsFork(process.Architecture, call.Number))
        && process.Handler?.IsOutOfLine(call.ProgramCounter) != true;

    /// <summary>A stopped thread's registers are put to where they would be without us, and what we hold of it is given back.</summary>
    private void MoveOutOfLine(ProcessHandle process, ITrapHandler handler, TracedTask task)
    {
        _registers = new RegisterSet(process.Architecture);
        if (_platform.GetRegisters(task.ThreadId, ref _registers) != Errno.None)
        {
            return;
        }

        ulong trapAddress = process.Architecture == Architecture.X64 ? _registers.ProgramCounter - 1 : _registers.ProgramCounter;
        if (task.HasUnansweredTrap && handler.WasTrap(trapAddress))
        {
            _registers.ProgramCounter = trapAddress;
            _platform.SetRegisters(task.ThreadId, _registers);
        }
        else if (handler.IsOutOfLine(_registers.ProgramCounter))
        {
            handler.LeaveOutOfLine(task, ref _registers);
            _platform.SetRegisters(task.ThreadId, _registers);
        }

        if (task.HeldSignal.si_signo != 0)
        {
            _platform.SetSignalMask(task.ThreadId, task.HeldMask);
            RemoteMap.SendAgain(process, task, task.HeldSignal);
            task.HeldSignal = default;
        }
    }

    /// <summary>Before the last thread goes: the target's action for SIGTRAP is put back, our memory unmapped.</summary>
    private void CleanUp(ProcessHandle process, ITrapHandler handler, bool mayUnmap)
    {
        bool isAction = process.TrapDisposition is { IsKnown: true };
        if (!isAction && handler.MappedAreas.Count == 0)
        {
            return;
        }

        if (FindWorker(process) is not { } worker)
        {
            Log.AreasLeft(_logger, process.ProcessId, handler.MappedAreas.Count);
            return;
        }

        if (isAction && process.TrapDisposition!.Restore(process, worker) is var error and not Errno.None)
        {
            Log.DispositionNotRestored(_logger, process.ProcessId, (int)error);
        }

        if (!mayUnmap && handler.MappedAreas.Count != 0)
        {
            // A thread that did not stop may come back to it.
            Log.AreasLeft(_logger, process.ProcessId, handler.MappedAreas.Count);
            return;
        }

        foreach ((ulong start, ulong length) in handler.MappedAreas)
        {
            if (RemoteMap.Unmap(process, worker, start, length) != Errno.None)
            {
                Log.AreasLeft(_logger, process.ProcessId, handler.MappedAreas.Count);
                return;
            }
        }
    }

    /// <summary>A stopped thread that can make system calls for us; one is stopped if none is, the one that notices least.</summary>
    private TracedTask? FindWorker(ProcessHandle process)
    {
        TracedTask? worker = process.Tasks.Values.FirstOrDefault(t => !t.IsVisitor && !t.IsAtVfork && t.State == TaskState.Stopped);
        if (worker is not null)
        {
            if (_stoppedSignal.TryGetValue(worker.ThreadId, out int signal) && signal != 0)
            {
                // It cannot be injected where a remote call leaves the thread.
                SendAgain(worker, signal);
                _stoppedSignal[worker.ThreadId] = 0;
            }

            return worker;
        }

        worker = process.Tasks.Values
            .Where(t => !t.IsVisitor && t.State == TaskState.Running)
            .OrderBy(t => InterruptCost(process, t))
            .FirstOrDefault();
        if (worker is null)
        {
            return null;
        }

        // What stops meanwhile stays stopped, and is resumed by whoever asked.
        bool isHeld = worker.IsHeld;
        worker.IsHeld = true;
        Interrupt(worker);
        bool isStopped = PumpUntil(() => worker.State == TaskState.Stopped || !process.Tasks.ContainsKey(worker.ThreadId), TimeSpan.FromSeconds(1));
        worker.IsHeld = isHeld;
        if (!isStopped || !process.Tasks.ContainsKey(worker.ThreadId))
        {
            return null;
        }

        if (_stoppedSignal.TryGetValue(worker.ThreadId, out int pending) && pending != 0)
        {
            SendAgain(worker, pending);
            _stoppedSignal[worker.ThreadId] = 0;
        }

        RestartIfOnlyWeInterrupted(process, worker);
        return worker;
    }

    /// <summary>To be called before the first trap is written: learns what traps may destroy.</summary>
    public void PrepareForTraps()
    {
        ProcessHandle process = Process!;
        if (process.TrapDisposition is not null || process.IsOver || !TrapDisposition.IsNeeded(_platform, process.ProcessId))
        {
            return;
        }

        TrapDisposition disposition = new();
        process.TrapDisposition = disposition;
        Errno error = Errno.ESRCH;
        if (FindWorker(process) is { } worker)
        {
            // An exec may have come in between: then this is the disposition of a program that is no more.
            error = process.TrapDisposition == disposition ? disposition.Learn(process, worker) : Errno.None;
            Resume(worker, 0);
        }

        if (error != Errno.None)
        {
            Log.DispositionNotLearned(_logger, process.ProcessId, (int)error);
        }
    }

    /// <summary>System calls which make a child that the kernel attaches to us: clone, fork, vfork, clone3.</summary>
    private static bool IsFork(Architecture architecture, long number) =>
        architecture == Architecture.X64 ? number is 56 or 57 or 58 or 435 : number is 220 or 435;

    /// <summary>System calls which an interruption ends with EINTR although no signal came (signal(7)); the number by architecture.</summary>
    private static bool IsEndedByInterruption(Architecture architecture, long number) => architecture == Architecture.X64
        ? number is 65 or 220 or 128 or 208 or 232 or 281 or 441 or 247 or 333
        : number is 193 or 192 or 137 or 4 or 22 or 441 or 292;

    private int InterruptCost(ProcessHandle process, TracedTask task)
    {
        if (!ProcSystemCall.TryRead(_platform, process.ProcessId, task.ThreadId, out ProcSystemCall call, out _) || call.IsRunning || call.Number < 0)
        {
            return 0;
        }

        return IsEndedByInterruption(process.Architecture, call.Number) ? 2 : 1;
    }

    /// <summary>A thread whose epoll_wait or the like was ended by us alone goes back to before the call.</summary>
    private void RestartIfOnlyWeInterrupted(ProcessHandle process, TracedTask task)
    {
        _registers = new RegisterSet(process.Architecture);
        if (process.Architecture != Architecture.X64 || _platform.GetRegisters(task.ThreadId, ref _registers) != Errno.None)
        {
            return;
        }

        long number = (long)_registers[X64Register.OrigRax];
        bool noSignal = ProcStatus.TryRead(_platform, task.ThreadId, out ProcStatus? status, out _)
            && ((status!.SigPnd | status.ShdPnd) & ~status.SigBlk) == 0;
        if (noSignal && number >= 0 && (long)_registers[X64Register.Rax] == -(long)Errno.EINTR && IsEndedByInterruption(process.Architecture, number))
        {
            _registers[X64Register.Rax] = (ulong)number;
            _registers[X64Register.OrigRax] = ulong.MaxValue;
            _registers.ProgramCounter -= 2;
            _platform.SetRegisters(task.ThreadId, _registers);
        }
    }
}
