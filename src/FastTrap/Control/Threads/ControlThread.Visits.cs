using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Looking at all threads of a process, and stepping threads out of code of ours.</summary>
/// <remarks>
/// A visit does not stop all threads at once: each is seen at some moment after the visit began. Who sleeps in the kernel is read in /proc before and after it is looked at, and is seen if nothing has changed; who runs is interrupted once.
/// A thread that is born meanwhile stands behind a system call, where its parent was.
/// </remarks>
internal sealed partial class ControlThread
{
    /// <summary>More than any code of ours has, so that a repeated instruction, which is stepped through round by round, does not hold up everybody.</summary>
    private const int MaximumSteps = 4096;

    private static readonly TimeSpan s_visitTimeout = TimeSpan.FromSeconds(2);

    private enum StepEnd
    {
        /// <summary>The thread stands outside.</summary>
        Out,

        /// <summary>It stands in front of a fault of its own.</summary>
        Fault,

        /// <summary>It is still inside.</summary>
        StillIn,

        /// <summary>It has ended.</summary>
        Ended,
    }

    /// <summary>Has every thread of a process looked at once; false if one could not be in time. Reports are handled meanwhile. Control thread only, and not from within a hit.</summary>
    public bool Visit(ProcessHandle process, IThreadVisit visit)
    {
        foreach (TracedTask task in process.Tasks.Values.ToArray())
        {
            if (task.StandingSignal != 0)
            {
                continue;
            }

            task.Visit = visit;
            if (task.State == TaskState.Stopped)
            {
                LookAt(task);
            }
            else if (IsSeenAsleep(process, task, visit))
            {
                task.Visit = null;
            }
            else
            {
                Interrupt(task);
            }
        }

        bool isDone = PumpUntil(() => !process.Tasks.Values.Any(t => t.Visit == visit), s_visitTimeout);
        foreach (TracedTask task in process.Tasks.Values)
        {
            task.Visit = null;
        }

        return isDone || process.IsOver;
    }

    /// <summary>The handler is prepared for the signal in front of which a thread stands.</summary>
    public void ReleaseStanding(TracedTask task)
    {
        int signal = task.StandingSignal;
        if (signal != 0 && _tasks.TryGetValue(task.ThreadId, out TracedTask? current) && current == task)
        {
            task.StandingSignal = 0;
            OnSignalStop(task.Process, task, signal);
        }
    }

    private bool IsSeenAsleep(ProcessHandle process, TracedTask task, IThreadVisit visit)
    {
        int owner = task.IsVisitor ? task.ThreadId : process.ProcessId;
        return ProcSystemCall.TryRead(_platform, owner, task.ThreadId, out ProcSystemCall before, out _) && !before.IsRunning
            && visit.TryPass(task, before)
            && ProcSystemCall.TryRead(_platform, owner, task.ThreadId, out ProcSystemCall after, out _) && !after.IsRunning
            && (after.Number, after.StackPointer, after.ProgramCounter) == (before.Number, before.StackPointer, before.ProgramCounter);
    }

    private void LookAt(TracedTask task)
    {
        IThreadVisit visit = task.Visit!;
        task.Visit = null;
        _registers = new RegisterSet(task.Process.Architecture);
        if (_platform.GetRegisters(task.ThreadId, ref _registers) != Errno.None)
        {
            // Killed: its end is reported.
            return;
        }

        switch (visit.Look(task, ref _registers))
        {
            case VisitOutcome.Changed:
                _platform.SetRegisters(task.ThreadId, _registers);
                break;
            case VisitOutcome.StepOut when task.Process.Handler is { } handler:
                // One that faults executes its instruction, and faults, again.
                _ = StepOut(handler, task);
                SendHeldBehind(task);
                break;
            default:
                break;
        }

        if (task.WasInterrupted)
        {
            RestartIfOnlyWeInterrupted(task.Process, task);
        }
    }

    /// <summary>A signal finds a thread in code of ours which it must leave, or whose place in the text is not ready for it.</summary>
    private void OnSignalInTrampoline(ITrapHandler handler, TracedTask task, SignalInfo info, SignalOutcome outcome)
    {
        if (outcome == SignalOutcome.Stand)
        {
            task.StandingSignal = info.si_signo;
            if (task.Visit is not null)
            {
                LookAt(task);
            }

            return;
        }

        switch (StepOut(handler, task))
        {
            case StepEnd.Out when !task.IsJobControlStopped:
                _platform.SetSignalInfo(task.ThreadId, info);
                SendHeldBehind(task);
                Resume(task, info.si_signo);
                break;
            case StepEnd.Fault:
                // The fault comes first, by itself; the other is sent again.
                RemoteMap.SendAgain(task.Process, task, info);
                SendHeldBehind(task);
                if (_platform.GetSignalInfo(task.ThreadId, out SignalInfo fault) == Errno.None
                    && _platform.GetRegisters(task.ThreadId, ref _registers) == Errno.None)
                {
                    OnSignalOutOfLine(handler, task, fault.si_signo);
                }

                break;
            case StepEnd.Ended:
                break;
            default:
                // A long repeated instruction: the signal finds it a little later.
                RemoteMap.SendAgain(task.Process, task, info);
                SendHeldBehind(task);
                Resume(task, 0);
                break;
        }
    }

    /// <summary>
    /// Steps a stopped thread until it is out of what the handler placed in the target. Signals that come meanwhile are kept in <see cref="TracedTask.HeldBehind"/>.
    /// </summary>
    private StepEnd StepOut(ITrapHandler handler, TracedTask task)
    {
        const ulong Faults = (1UL << (Signal.SIGTRAP - 1)) | (1UL << (Signal.SIGSEGV - 1)) | (1UL << (Signal.SIGBUS - 1))
            | (1UL << (Signal.SIGILL - 1)) | (1UL << (Signal.SIGFPE - 1));
        int id = task.ThreadId;
        if (_platform.GetSignalMask(id, out ulong mask) != Errno.None || _platform.SetSignalMask(id, ~Faults) != Errno.None)
        {
            return StepEnd.StillIn;
        }

        StepEnd end = StepEnd.StillIn;
        RegisterSet registers = new(task.Process.Architecture);
        for (int step = 0; step < MaximumSteps && end == StepEnd.StillIn; step++)
        {
            if (_platform.GetRegisters(id, ref registers) != Errno.None)
            {
                break;
            }

            if (!handler.IsToStepOut(registers.ProgramCounter))
            {
                end = StepEnd.Out;
                if (handler.IsOutOfLine(registers.ProgramCounter))
                {
                    handler.LeaveOutOfLine(task, ref registers);
                    _platform.SetRegisters(id, registers);
                }

                break;
            }

            end = Step(task, registers.ProgramCounter);
        }

        if (end != StepEnd.Ended)
        {
            _platform.SetSignalMask(id, mask);
        }

        return end;
    }

    /// <summary>Executes one instruction of a stopped thread.</summary>
    private StepEnd Step(TracedTask task, ulong programCounter)
    {
        Span<byte> code = stackalloc byte[2];
        int read = _platform.ReadMemory(task.ThreadId, programCounter, code);
        bool pushesFlags = read > 0 && (code[0] == 0x9c || (read == 2 && code[0] == 0x66 && code[1] == 0x9c));
        while (true)
        {
            if (_platform.SingleStep(task.ThreadId, 0) != Errno.None)
            {
                return StepEnd.Ended;
            }

            int id;
            WaitStatus status;
            do
            {
                id = _platform.Wait(task.ThreadId, block: true, out status);
            }
            while (id == -(int)Errno.EINTR);

            if (id != task.ThreadId)
            {
                return StepEnd.Ended;
            }

            if (!status.Stopped || status.Event is not (PtraceEvent.None or PtraceEvent.Stop))
            {
                OnReport(id, status);
                return StepEnd.Ended;
            }

            if (status.Event == PtraceEvent.Stop)
            {
                // An interruption that was under way; or job control, which is obeyed when it is out.
                task.InterruptPending = false;
                task.IsJobControlStopped |= status.StopSignal is Signal.SIGSTOP or Signal.SIGTSTP or Signal.SIGTTIN or Signal.SIGTTOU;
                continue;
            }

            if (_platform.GetSignalInfo(id, out SignalInfo info) != Errno.None)
            {
                return StepEnd.Ended;
            }

            if (info.si_signo == Signal.SIGTRAP && info.si_code > 0)
            {
                if (pushesFlags)
                {
                    HideStepping(task);
                }

                return StepEnd.StillIn;
            }

            if (info.IsSynchronous)
            {
                return StepEnd.Fault;
            }

            (task.HeldBehind ??= []).Add(info);
        }
    }

    /// <summary>Flags that were pushed while a thread was stepped show that.</summary>
    private void HideStepping(TracedTask task)
    {
        RegisterSet registers = new(task.Process.Architecture);
        Span<byte> flags = stackalloc byte[2];
        if (_platform.GetRegisters(task.ThreadId, ref registers) == Errno.None
            && _platform.ReadMemory(task.ThreadId, registers.StackPointer, flags) == flags.Length)
        {
            flags[1] &= 0xfe;
            _platform.WriteMemory(task.ThreadId, registers.StackPointer, flags);
        }
    }
}
