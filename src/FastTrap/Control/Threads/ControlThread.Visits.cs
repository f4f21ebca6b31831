using System.Diagnostics;
using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Looking at all threads of a process, and stepping threads out of code of ours.</summary>
/// <remarks>
/// A visit does not stop all threads at once: each is seen at some moment after the visit began. Who sleeps in the kernel is read in /proc before and after it is looked at, and is seen if nothing has changed; who runs is interrupted once.
/// A thread that is born meanwhile stands behind a system call, where its parent was.
/// </remarks>
internal sealed partial class ControlThread
{
    /// <summary>A repeated instruction, which is stepped through round by round, does not hold up everybody, nor does a program that reads long texts by system calls.</summary>
    private const int MaximumSteps = 4096;

    private const ulong FaultSignals = (1UL << (Signal.SIGTRAP - 1)) | (1UL << (Signal.SIGSEGV - 1)) | (1UL << (Signal.SIGBUS - 1))
        | (1UL << (Signal.SIGILL - 1)) | (1UL << (Signal.SIGFPE - 1));

    /// <summary>The mask of a thread that is stepped with its signals blocked, as the kernel keeps it.</summary>
    public const ulong BlockedWhileStepped = ~(FaultSignals | (1UL << (Signal.SIGKILL - 1)) | (1UL << (Signal.SIGSTOP - 1)));

    /// <summary>rt_sigreturn on x86-64.</summary>
    private const int SignalReturn = 15;

    /// <summary>Each stands until those that were reported before it were looked at.</summary>
    private const int InterruptedAtOnce = 4;

    /// <summary>On a machine with much more to run than processors, a thread that was interrupted comes to its stop after seconds.</summary>
    private static readonly TimeSpan s_visitTimeout = TimeSpan.FromSeconds(10);

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
        using Urgency urgency = BeUrgent();
        long start = Stopwatch.GetTimestamp();
        TracedTask[] tasks = [.. process.Tasks.Values.Where(t => t.StandingSignal == 0)];
        foreach (TracedTask task in tasks)
        {
            task.Visit = visit;
        }

        // Who sleeps is looked at first, so that those who are interrupted do not stand meanwhile; and of those there are a few at a time.
        foreach (TracedTask task in tasks)
        {
            if (!IsToVisit(process, task, visit))
            {
                continue;
            }

            if (task.State == TaskState.Stopped)
            {
                LookAt(task);
            }
            else if (IsSeenAsleep(process, task, visit))
            {
                task.Visit = null;
            }

            HandleWaiting();
        }

        foreach (TracedTask task in tasks)
        {
            if (IsToVisit(process, task, visit) && PumpUntil(() => CountInterrupted(process) < InterruptedAtOnce, s_visitTimeout - Stopwatch.GetElapsedTime(start))
                && IsToVisit(process, task, visit))
            {
                Interrupt(task);
            }
        }

        bool isDone = PumpUntil(() => !tasks.Any(t => IsToVisit(process, t, visit)), s_visitTimeout - Stopwatch.GetElapsedTime(start));
        foreach (TracedTask task in tasks)
        {
            task.Visit = null;
        }

        return isDone || process.IsOver;
    }

    private static bool IsToVisit(ProcessHandle process, TracedTask task, IThreadVisit visit) =>
        task.Visit == visit && process.Tasks.TryGetValue(task.ThreadId, out TracedTask? current) && current == task;

    private static int CountInterrupted(ProcessHandle process)
    {
        int count = 0;
        foreach (TracedTask task in process.Tasks.Values)
        {
            // One that stands for something else comes to its interruption when it goes on.
            count += task.InterruptPending && task.State != TaskState.Stopped ? 1 : 0;
        }

        return count;
    }

    /// <summary>Handles the reports that wait, and no others; not without end where threads hit probes without end.</summary>
    private void HandleWaiting()
    {
        int id;
        for (int most = LeastReports + (ReportsPerTask * _tasks.Count); most > 0 && (id = Ask(out WaitStatus status)) > 0; most--)
        {
            OnReport(id, status);
            TakeTurns();
        }
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

    /// <summary>A held thread goes on at another address, if it stands where it is taken to.</summary>
    public void MoveHeld(TracedTask task, ulong from, ulong to)
    {
        RegisterSet registers = new(task.Process.Architecture);
        if (_platform.GetRegisters(task.ThreadId, ref registers) == Errno.None && registers.ProgramCounter == from)
        {
            registers.ProgramCounter = to;
            _platform.SetRegisters(task.ThreadId, registers);
        }
    }

    private bool IsSeenAsleep(ProcessHandle process, TracedTask task, IThreadVisit visit)
    {
        int owner = task.IsVisitor ? task.ThreadId : process.ProcessId;

        // Outside of a system call it may be in a stop for a trap whose report has not been read.
        return ProcSystemCall.TryRead(_platform, owner, task.ThreadId, out ProcSystemCall before, out _) && !before.IsRunning
            && (before.Number >= 0 || task.State == TaskState.Listening) && visit.TryPass(task, before)
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
                if (StepOut(handler, task) == StepEnd.StillIn)
                {
                    task.Visit = visit;
                    Interrupt(task);
                }

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
                GoOnStepped(task, info.si_signo);
                break;
            case StepEnd.Fault:
                // The fault comes first, by itself; the other is sent again.
                RemoteMap.SendAgain(task.Process, task, info);
                SendHeldBehind(task);
                if (_platform.GetSignalInfo(task.ThreadId, out SignalInfo fault) == Errno.None
                    && _platform.GetRegisters(task.ThreadId, ref _registers) == Errno.None)
                {
                    InterruptAgain(task);
                    OnSignalOutOfLine(handler, task, fault.si_signo);
                }

                break;
            case StepEnd.Ended:
                break;
            default:
                // A long repeated instruction: the signal finds it a little later.
                RemoteMap.SendAgain(task.Process, task, info);
                GoOnStepped(task, 0);
                break;
        }
    }

    private void GoOnStepped(TracedTask task, int signal)
    {
        SendHeldBehind(task);
        InterruptAgain(task);
        Resume(task, signal);
    }

    /// <summary>A visit waits for its interruption, which may have been taken while it was stepped.</summary>
    private void InterruptAgain(TracedTask task)
    {
        if (task.Visit is not null && !task.InterruptPending)
        {
            Interrupt(task);
        }
    }

    /// <summary>
    /// Steps a stopped thread until it is out of what the handler placed in the target. Signals that come meanwhile wait, blocked. Only then a mask is set, and where the thread blocks what steps and loads of ours raise, for which the kernel would
    /// reset mask and action; the handler knows to give it back in the target if the tracer is killed.
    /// </summary>
    private StepEnd StepOut(ITrapHandler handler, TracedTask task)
    {
        int id = task.ThreadId;
        ulong? mask = null;
        bool blocksFaults = false;
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
                GiveBackMask(handler, task, ref mask);
                if (handler.IsOutOfLine(registers.ProgramCounter))
                {
                    handler.LeaveOutOfLine(task, ref registers);
                    _platform.SetRegisters(id, registers);
                }

                break;
            }

            if (step == 0 && BlocksFaults(task))
            {
                // The mask is set in the stop that comes before anything is executed, when the processor is to trap already: were the tracer killed before that, nobody would give the mask back.
                _ = _platform.Interrupt(id);
                blocksFaults = true;
            }

            bool returns = registers.Architecture == Architecture.X64 && (int)registers[X64Register.Rax] == SignalReturn;
            ulong callee = registers.ProgramCounter;
            end = Step(handler, task, callee, blocksFaults, ref mask);
            if (end == StepEnd.Fault && TrySkipLoad(handler, task))
            {
                end = StepEnd.StillIn;
            }

            if (returns && end != StepEnd.Ended && SystemCallInstruction.IsAt(_platform, task.Process.ProcessId, Architecture.X64, callee))
            {
                // It has set the mask of what it returned to.
                blocksFaults = BlocksFaults(task);
                if (mask is not null || blocksFaults)
                {
                    _ = TryBlock(handler, task, ref mask);
                }
            }
        }

        if (end != StepEnd.Ended)
        {
            GiveBackMask(handler, task, ref mask);
        }

        return end;
    }

    private bool BlocksFaults(TracedTask task) => _platform.GetSignalMask(task.ThreadId, out ulong own) == Errno.None && (own & FaultSignals) != 0;

    /// <summary>A load of a program has faulted: the thread goes on behind it.</summary>
    private bool TrySkipLoad(ITrapHandler handler, TracedTask task)
    {
        RegisterSet registers = new(task.Process.Architecture);
        return _platform.GetRegisters(task.ThreadId, ref registers) == Errno.None && handler.TrySkipLoad(ref registers)
            && _platform.SetRegisters(task.ThreadId, registers) == Errno.None;
    }

    /// <summary>Executes one instruction of a stopped thread.</summary>
    private StepEnd Step(ITrapHandler handler, TracedTask task, ulong programCounter, bool blocksFaults, ref ulong? mask)
    {
        Span<byte> code = stackalloc byte[2];
        int read = _platform.ReadMemory(task.ThreadId, programCounter, code);
        bool pushesFlags = read > 0 && (code[0] == 0x9c || (read == 2 && code[0] == 0x66 && code[1] == 0x9c));
        int waiting = 0;
        while (true)
        {
            if (_platform.SingleStep(task.ThreadId, waiting) != Errno.None)
            {
                return StepEnd.Ended;
            }

            waiting = 0;
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
                _ = blocksFaults && mask is null && TryBlock(handler, task, ref mask);
                continue;
            }

            if (_platform.GetSignalInfo(task.ThreadId, out SignalInfo info) != Errno.None)
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

            if ((Signal.Bit(info.si_signo) & (FaultSignals | Signal.Bit(Signal.SIGSTOP))) != 0
                || (mask is null && !TryBlock(handler, task, ref mask)))
            {
                (task.HeldBehind ??= []).Add(info);
                continue;
            }

            // Delivered to a thread that blocks it, it is pending again, with all its details.
            waiting = info.si_signo;
        }
    }

    private void GiveBackMask(ITrapHandler handler, TracedTask task, ref ulong? mask)
    {
        if (mask is { } own)
        {
            _platform.SetSignalMask(task.ThreadId, own);
            handler.KeepMask(task, null);
            mask = null;
        }
    }

    /// <summary>Takes the thread's mask, and blocks all but what steps and faults raise.</summary>
    private bool TryBlock(ITrapHandler handler, TracedTask task, ref ulong? mask)
    {
        if (_platform.GetSignalMask(task.ThreadId, out ulong own) != Errno.None)
        {
            return false;
        }

        handler.KeepMask(task, own);
        if (_platform.SetSignalMask(task.ThreadId, ~FaultSignals) != Errno.None)
        {
            handler.KeepMask(task, null);
            return false;
        }

        mask = own;
        return true;
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
