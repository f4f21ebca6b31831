using System.Diagnostics;
using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>What to do with each report of the kernel.</summary>
internal sealed partial class ControlThread
{
    private RegisterSet _registers;
    private RegisterSet _registersAtStop;

    /// <summary>The process which is being detached: whoever of it stops, stays stopped.</summary>
    private ProcessHandle? _detaching;

    /// <summary>Its threads which stand, with the signals they are to get when they go.</summary>
    private readonly Dictionary<int, int> _stoppedSignal = [];

    private void OnReport(int id, WaitStatus status)
    {
        _lastReport = Stopwatch.GetTimestamp();
        if (!_tasks.TryGetValue(id, out TracedTask? task))
        {
            if (!status.Stopped)
            {
                // Born and killed before its first stop, or a thread that an exec has ended.
                _awaited.Remove(id);
                _unclaimed.Remove(id);
                return;
            }

            if ((task = Identify(id, status)) is null)
            {
                return;
            }
        }

        if (status.Stopped)
        {
            OnStop(task, status);
            _seenAhead = null;
        }
        else
        {
            OnTaskEnded(task.Process, task, status);
        }
    }

    private void OnStop(TracedTask task, WaitStatus status)
    {
        task.LastRound = _round;
        task.StoppedSince = task.Process.StallMeters.Count != 0 ? Math.Max(_lastIdle, task.WentOn) : 0;
        task.State = TaskState.Stopped;
        task.IsAtVfork = status.Event == PtraceEvent.Vfork;
        task.WasInterrupted = task.InterruptPending && status.Event == PtraceEvent.Stop && status.StopSignal == Signal.SIGTRAP;
        if (task.Process.IsReleased)
        {
            OnStopAfterRelease(task, status);
            return;
        }

        switch (status.Event)
        {
            case PtraceEvent.None:
                OnSignalStop(task.Process, task, status.StopSignal);
                break;
            case PtraceEvent.Stop:
                OnEventStop(task, status.StopSignal);
                break;
            case PtraceEvent.Exec:
                OnExec(task.Process, task);
                break;
            default:
                Expect(task);
                if (task.InterruptPending)
                {
                    // The kernel takes an interruption as done with any stop within a system call.
                    Interrupt(task);
                }

                Resume(task, 0);
                break;
        }
    }

    private void OnEventStop(TracedTask task, int signal)
    {
        task.InterruptPending = false;
        if (_detaching == task.Process)
        {
            _stoppedSignal.TryAdd(task.ThreadId, 0);
            return;
        }

        // Stopped by job control: it stays stopped, and we hear of its going on.
        task.IsJobControlStopped = signal is Signal.SIGSTOP or Signal.SIGTSTP or Signal.SIGTTIN or Signal.SIGTTOU;
        if (task.Visit is not null && (task.IsJobControlStopped || task.IsHeld || !IsBehindTrap(task)))
        {
            LookAt(task);
        }

        Resume(task, 0);
    }

    /// <summary>Whether a thread has executed a trap whose signal it gets when it goes on: until that is answered, nothing can be said of where it stands.</summary>
    private bool IsBehindTrap(TracedTask task)
    {
        _registers = new RegisterSet(task.Process.Architecture);
        return _platform.GetRegisters(task.ThreadId, ref _registers) == Errno.None && PendingTrap.IsBehind(_platform, task.ThreadId, in _registers);
    }

    private void OnSignalStop(ProcessHandle process, TracedTask task, int signal)
    {
        if (signal == Signal.SIGTRAP)
        {
            OnTrapStop(process, task);
            return;
        }

        ITrapHandler? handler = process.Handler;
        if (handler is not null && handler.MappedAreas.Count != 0)
        {
            _registers = new RegisterSet(process.Architecture);
            if (_platform.GetRegisters(task.ThreadId, ref _registers) == Errno.None && handler.IsOutOfLine(_registers.ProgramCounter))
            {
                OnSignalOutOfLine(handler, task, signal);
                return;
            }
        }

        Resume(task, signal);
    }

    private void OnSignalOutOfLine(ITrapHandler handler, TracedTask task, int signal)
    {
        if (_platform.GetSignalInfo(task.ThreadId, out SignalInfo info) != Errno.None)
        {
            Resume(task, signal);
            return;
        }

        bool isFirst = task.HeldSignal.si_signo == 0;
        SignalOutcome outcome = handler.OnSignalOutOfLine(task, ref _registers, ref info);
        if (outcome is SignalOutcome.StepOut or SignalOutcome.Stand)
        {
            OnSignalInTrampoline(handler, task, info, outcome);
            return;
        }

        _platform.SetRegisters(task.ThreadId, _registers);
        if (outcome == SignalOutcome.Ignore)
        {
            RestoreFault(task, signal);
            Resume(task, 0);
            return;
        }

        if (outcome == SignalOutcome.Hold)
        {
            // Nothing else may come in between; faults of the instruction itself must.
            const ulong Faults = (1UL << (Signal.SIGTRAP - 1)) | (1UL << (Signal.SIGSEGV - 1)) | (1UL << (Signal.SIGBUS - 1))
                | (1UL << (Signal.SIGILL - 1)) | (1UL << (Signal.SIGFPE - 1));
            if (isFirst && _platform.GetSignalMask(task.ThreadId, out ulong mask) == Errno.None)
            {
                task.HeldMask = mask;
                _platform.SetSignalMask(task.ThreadId, ~Faults);
            }

            Resume(task, 0);
            return;
        }

        _platform.SetSignalInfo(task.ThreadId, info);
        SendHeldBehind(task);
        Resume(task, info.si_signo);
    }

    /// <summary>Sends again what came while a signal was held, once that one is given back.</summary>
    private static void SendHeldBehind(TracedTask task)
    {
        if (task.HeldSignal.si_signo == 0 && task.HeldBehind is { Count: > 0 } behind)
        {
            foreach (SignalInfo signal in behind)
            {
                RemoteMap.SendAgain(task.Process, task, signal);
            }

            behind.Clear();
        }
    }

    private void OnTrapStop(ProcessHandle process, TracedTask task)
    {
        task.HasUnansweredTrap = true;
        if (_registers.Architecture != process.Architecture)
        {
            // Otherwise every word is overwritten.
            _registers = new RegisterSet(process.Architecture);
        }

        if (!TryTakeSeen(task, out SignalInfo info)
            && (_platform.GetRegisters(task.ThreadId, ref _registers) != Errno.None || _platform.GetSignalInfo(task.ThreadId, out info) != Errno.None))
        {
            // Killed between the stop and the question: its end is reported next.
            return;
        }

        _registersAtStop = _registers;
        if (task.LedFrom != 0)
        {
            _registers.ProgramCounter = task.LedFrom + 1;
            task.LedFrom = 0;
        }

        // int3 leaves the pc behind itself, brk on itself.
        ulong trapAddress = process.Architecture == Architecture.X64 ? _registers.ProgramCounter - 1 : _registers.ProgramCounter;
        task.StoppedByTrapInstruction = process.IsTrapInstruction(info);
        if (!task.StoppedByTrapInstruction && HidesTrap(process, task, info, trapAddress) && !ServeTrapFirst(process, task, info))
        {
            return;
        }

        if (process.ControlBreakpoints.Find(trapAddress) is { } breakpoint && OnControlBreakpoint(process, task, breakpoint))
        {
            return;
        }

        TrapOutcome outcome = process.Handler?.OnTrap(task, ref _registers, trapAddress) ?? TrapOutcome.NotOurs;
        if (outcome == TrapOutcome.NotOurs)
        {
            OnForeignTrap(process, task, trapAddress);
            return;
        }

        if (outcome != TrapOutcome.Continue)
        {
            _platform.SetChangedRegisters(task.ThreadId, _registers, _registersAtStop);
        }

        RestoreTrapMask(task);
        task.ResumedWith = _registers;

        if (outcome == TrapOutcome.ContinueWithSignal)
        {
            SignalInfo held = task.HeldSignal;
            task.HeldSignal = default;
            _platform.SetSignalMask(task.ThreadId, task.HeldMask);
            task.KnownMask = task.HeldMask;
            _platform.SetSignalInfo(task.ThreadId, held);
            SendHeldBehind(task);
            Resume(task, held.si_signo);
            process.Handler?.OnResumed();
            return;
        }

        Resume(task, 0);
        process.Handler?.OnResumed();
    }

    /// <summary>A SIGTRAP that belongs to no tracepoint: ours of a moment ago, or the target's own business.</summary>
    private void OnForeignTrap(ProcessHandle process, TracedTask task, ulong trapAddress)
    {
        if (!task.StoppedByTrapInstruction)
        {
            // Sent by somebody. A program that ignores it has that reset by each trap of ours.
            if (process.TrapDisposition is { IsIgnored: true } && !SignalDisposition.IsNeeded(_platform, process.ProcessId, Signal.SIGTRAP))
            {
                Resume(task, 0);
            }
            else if (process.Handler is { } sentTo && sentTo.IsOutOfLine(_registers.ProgramCounter))
            {
                OnSignalOutOfLine(sentTo, task, Signal.SIGTRAP);
            }
            else
            {
                Resume(task, Signal.SIGTRAP);
            }

            return;
        }

        if (process.Handler?.WasTrap(trapAddress) != true && (IsTrapInText(process, task, trapAddress) || IsAnothers(process, trapAddress)))
        {
            // The program's own trap, or another debugger's: it gets the signal it expects, from its own address.
            if (_registers.ProgramCounter != _registersAtStop.ProgramCounter)
            {
                // It was led before anybody looked.
                _platform.SetRegisters(task.ThreadId, _registers);
                _platform.SetSignalInfo(task.ThreadId, _seenInfo);
            }

            if (process.Handler is { } handler && handler.IsOutOfLine(_registers.ProgramCounter))
            {
                OnSignalOutOfLine(handler, task, Signal.SIGTRAP);
                return;
            }

            Resume(task, Signal.SIGTRAP);
            return;
        }

        // Stale: the trap was removed after the thread had executed it. The instruction is executed as if it had never been there.
        GoOnAt(task, ref _registers, trapAddress);
    }

    /// <summary>Whether a trap may be one of an earlier tracer's, whose guard is still there and knows where to go on.</summary>
    private static bool IsAnothers(ProcessHandle process, ulong trapAddress) =>
        !process.ControlBreakpoints.WasTrap(trapAddress) && process.Handler is null or { HasOtherGuard: true };

    private bool IsTrapInText(ProcessHandle process, TracedTask task, ulong trapAddress)
    {
        Span<byte> code = stackalloc byte[4];
        if (process.Architecture == Architecture.Arm64)
        {
            return _platform.ReadMemory(task.ThreadId, trapAddress, code) == 4 && (MemoryMarshal.Read<uint>(code) & 0xFFE0001F) == 0xD4200000;
        }

        // int3, or the two bytes of int 3.
        return _platform.ReadMemory(task.ThreadId, trapAddress - 1, code[..2]) == 2 && (code[1] == 0xCC || (code[0] == 0xCD && code[1] == 3));
    }

    /// <summary>
    /// A trap instruction in a thread which blocks SIGTRAP makes the kernel unblock it. Nothing tells what the mask was, so it is
    /// inferred: the mask last seen plus this very change, or a mask which blocks the other synchronous signals.
    /// </summary>
    private void RestoreTrapMask(TracedTask task)
    {
        if (task.HeldSignal.si_signo != 0 || _platform.GetSignalMask(task.ThreadId, out ulong mask) != Errno.None)
        {
            return;
        }

        if (IsUnblockedBy(task, mask, Signal.SIGTRAP))
        {
            mask |= Signal.Bit(Signal.SIGTRAP);
            _platform.SetSignalMask(task.ThreadId, mask);
            if (task.Process.TrapDisposition is { IsKnown: true, IsIgnored: false } disposition)
            {
                disposition.Restore(task.Process, task);
            }
        }

        task.KnownMask = mask;
    }

    private static bool IsUnblockedBy(TracedTask task, ulong mask, int signal)
    {
        const ulong Faults = (1UL << (Signal.SIGSEGV - 1)) | (1UL << (Signal.SIGILL - 1)) | (1UL << (Signal.SIGFPE - 1));
        ulong own = Signal.Bit(signal);
        ulong siblings = Faults & ~own;
        return (mask & own) == 0 && mask != task.KnownMask && ((mask | own) == task.KnownMask || (mask & siblings) == siblings);
    }

    /// <summary>
    /// Gives a signal that a stopped thread was about to get back to the kernel, because it cannot be delivered from where the thread will stand. A fault is
    /// dropped: the instruction is executed, and faults, again. So is a trap, which the thread stands behind: it goes back to it.
    /// </summary>
    private void SendAgain(TracedTask task, int signal)
    {
        if (signal == 0 || _platform.GetSignalInfo(task.ThreadId, out SignalInfo info) != Errno.None)
        {
            return;
        }

        if (task.Process.IsTrapInstruction(info))
        {
            GoBackToTrap(task);
        }
        else if (!info.IsSynchronous)
        {
            RemoteMap.SendAgain(task.Process, task, info);
        }
    }

    private void GoBackToTrap(TracedTask task)
    {
        _registers = new RegisterSet(task.Process.Architecture);
        Span<byte> code = stackalloc byte[2];
        if (task.Process.Architecture == Architecture.X64 && _platform.GetRegisters(task.ThreadId, ref _registers) == Errno.None)
        {
            // int3, or the two bytes of int 3.
            ulong behind = _registers.ProgramCounter;
            bool isLong = _platform.ReadMemory(task.ThreadId, behind - 2, code) == code.Length && code[0] == 0xCD && code[1] == 3;
            _registers.ProgramCounter = behind - (isLong ? 2UL : 1UL);
            _platform.SetRegisters(task.ThreadId, _registers);
        }
    }

    /// <summary>Lets a stopped thread go on, unless it is held or being detached. ESRCH means that it died meanwhile; its end is reported.</summary>
    private void Resume(TracedTask task, int signal)
    {
        if (_detaching == task.Process)
        {
            task.HasUnansweredTrap = false;
            _stoppedSignal[task.ThreadId] = signal;
            return;
        }

        if (task.IsHeld)
        {
            task.HasUnansweredTrap = false;
            SendAgain(task, signal);
            if (task.Visit is not null)
            {
                // The interruption is reported only when it goes on.
                LookAt(task);
            }

            return;
        }

        if (task.EndStatus is { } end)
        {
            OnTaskEnded(task.Process, task, end);
            return;
        }

        if (task.IsJobControlStopped)
        {
            task.IsJobControlStopped = false;
            task.State = TaskState.Listening;
            if (_platform.Listen(task.ThreadId) != Errno.None)
            {
                // It was stepped since: the stop is reported anew.
                Interrupt(task);
                task.State = TaskState.Running;
                _platform.Continue(task.ThreadId, 0);
            }

            return;
        }

        if (task.Visit is not null && task.HasUnansweredTrap)
        {
            // It was behind a trap, and is looked at now.
            Interrupt(task);
        }

        task.State = TaskState.Running;
        task.HasUnansweredTrap = false;
        if (task.StoppedSince != 0)
        {
            MeasureStop(task);
        }

        _platform.Continue(task.ThreadId, signal);
    }

    private static void MeasureStop(TracedTask task)
    {
        task.WentOn = Stopwatch.GetTimestamp();
        foreach (StallMeter meter in task.Process.StallMeters)
        {
            meter.Add(task.WentOn - task.StoppedSince);
        }

        task.StoppedSince = 0;
    }

    /// <summary>Takes back one <see cref="TracedTask.Hold"/>; the last lets the thread go on. Control thread only. Nothing happens to one that is gone.</summary>
    public void Release(TracedTask task)
    {
        if (task.Holds == 0 || --task.Holds != 0 || task.State != TaskState.Stopped)
        {
            return;
        }

        if (_tasks.TryGetValue(task.ThreadId, out TracedTask? current) && current == task)
        {
            Resume(task, 0);
        }
    }
}
