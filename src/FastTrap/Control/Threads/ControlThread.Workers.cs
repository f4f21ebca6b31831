using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Finding a thread to make a system call for us, and leaving no trace of having stopped it.</summary>
internal sealed partial class ControlThread
{
    private const int BorrowAttempts = 8;

    /// <summary>A stopped thread that can make system calls for us; one is stopped if none is, the one that notices least.</summary>
    private TracedTask? FindWorker(ProcessHandle process)
    {
        TracedTask? worker = process.Tasks.Values.FirstOrDefault(t => !t.IsVisitor && !t.IsAtVfork && t.State == TaskState.Stopped && t.StandingSignal == 0);
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
            .Where(t => !t.IsVisitor && t.State != TaskState.Stopped)
            .OrderBy(t => InterruptCost(process, t))
            .FirstOrDefault();
        if (worker is null || (_detaching == process && IsWaitingForVisitor(process, worker)))
        {
            // The visitor was stopped by the detach, and its parent stops after it only.
            return null;
        }

        // What stops meanwhile stays stopped, and is resumed by whoever asked.
        worker.Hold();
        Interrupt(worker);
        bool isStopped = PumpUntil(() => worker.State == TaskState.Stopped || !process.Tasks.ContainsKey(worker.ThreadId), TimeSpan.FromSeconds(1));
        worker.Holds--;
        if (!isStopped || !process.Tasks.ContainsKey(worker.ThreadId))
        {
            return null;
        }

        if (worker.IsAtVfork)
        {
            // It would sleep until its child has gone, and that may wait for us.
            Resume(worker, 0);
            return null;
        }

        if (_stoppedSignal.TryGetValue(worker.ThreadId, out int pending) && pending != 0)
        {
            SendAgain(worker, pending);
            _stoppedSignal[worker.ThreadId] = 0;
        }

        if (worker.WasInterrupted)
        {
            RestartIfOnlyWeInterrupted(process, worker);
        }

        return worker;
    }

    /// <summary>
    /// Does something by a stopped thread that can make system calls for us, the one that notices least; false if there is none, or none that stops in time. Control thread only, and not from within a hit.
    /// </summary>
    public bool TryBorrow(ProcessHandle process, Action<TracedTask> action)
    {
        using Urgency urgency = BeUrgent();
        TracedTask? worker = null;
        for (int attempt = 0; worker is null && attempt < BorrowAttempts && !process.IsOver; attempt++)
        {
            // One may end just when it is asked.
            worker = FindWorker(process);
        }

        if (worker is null || process.IsOver)
        {
            return false;
        }

        action(worker);
        Resume(worker, 0);
        return true;
    }

    /// <summary>
    /// To be called before code of ours reads memory that may not be there: learns what faults may destroy. False if the process ignores their signals, which a fault would end for good. Control thread only, and not from within a hit.
    /// </summary>
    public bool PrepareForFaults(ProcessHandle process)
    {
        const ulong Faults = (1UL << (Signal.SIGSEGV - 1)) | (1UL << (Signal.SIGBUS - 1));
        if (ProcStatus.TryRead(_platform, process.ProcessId, out ProcStatus? status, out _) && (status!.SigIgn & Faults) != 0)
        {
            return false;
        }

        SignalDisposition[] needed =
            [.. new[] { Signal.SIGSEGV, Signal.SIGBUS }.Where(s => SignalDisposition.IsNeeded(_platform, process.ProcessId, s)).Select(s => new SignalDisposition(s))];
        if (needed.Length == 0)
        {
            return true;
        }

        SignalDisposition[] known = process.FaultDispositions;
        process.FaultDispositions = [.. needed, .. known];
        SignalDisposition[] current = process.FaultDispositions;
        Errno error = Errno.ESRCH;
        _ = TryBorrow(process, task =>
        {
            // An exec may have come in between: then these are a program's that is no more. A filter might kill it.
            error = process.FaultDispositions != current || RemoteMap.ReadSeccomp(process, task, out int seccomp) != Errno.None || seccomp != 0
                ? Errno.EPERM : needed.Select(d => d.Learn(process, task)).Max();
        });
        if (process.FaultDispositions == current)
        {
            // The latest of each that is known.
            process.FaultDispositions = [.. current.Where(d => d.IsKnown).DistinctBy(d => d.Number)];
        }

        if (error != Errno.None)
        {
            Log.DispositionNotLearned(_logger, process.ProcessId, (int)error);
        }

        return true;
    }

    /// <summary>To be called before the first trap is written: seizes whoever shares the memory, and learns what traps may destroy.</summary>
    /// <exception cref="FastTrapException">A process that shares the memory cannot be traced.</exception>
    public void PrepareForTraps(ProcessHandle process)
    {
        SeizeRest(process);
        if (process.TrapDisposition is not null || process.IsOver || !SignalDisposition.IsNeeded(_platform, process.ProcessId, Signal.SIGTRAP))
        {
            return;
        }

        using Urgency urgency = BeUrgent();
        SignalDisposition disposition = new(Signal.SIGTRAP);
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

    /// <summary>
    /// Calls on sockets (read, write and connect with their kin) which an interruption ends with EINTR if the socket has a timeout and nothing was done yet. They
    /// can be made again.
    /// </summary>
    private static bool IsEndedOnTimedSocket(Architecture architecture, long number) => architecture == Architecture.X64
        ? number is 0 or 1 or 19 or 20 or 42 or 43 or 44 or 45 or 46 or 47 or 288 or 299 or 307
        : number is 63 or 64 or 65 or 66 or 202 or 203 or 206 or 207 or 211 or 212 or 242 or 243 or 269;

    /// <summary>System calls which an interruption ends with EINTR although no signal came (signal(7)); the number by architecture.</summary>
    private static bool IsEndedByInterruption(Architecture architecture, long number) => architecture == Architecture.X64
        ? number is 65 or 220 or 128 or 208 or 232 or 281 or 441 or 247 or 333 or 426
        : number is 193 or 192 or 137 or 4 or 22 or 441 or 292 or 426;

    private int InterruptCost(ProcessHandle process, TracedTask task)
    {
        if (task.State == TaskState.Listening)
        {
            // Stopped by job control, and put back into that stop: nobody notices.
            return 0;
        }

        if (!ProcSystemCall.TryRead(_platform, process.ProcessId, task.ThreadId, out ProcSystemCall call, out _) || call.IsRunning || call.Number < 0)
        {
            return 0;
        }

        return task.IsAtVfork && IsFork(process.Architecture, call.Number) ? 3 : IsEndedByInterruption(process.Architecture, call.Number) ? 2 : 1;
    }

    /// <summary>A thread whose epoll_wait or the like was ended by us alone goes back to before the call.</summary>
    private void RestartIfOnlyWeInterrupted(ProcessHandle process, TracedTask task)
    {
        _registers = new RegisterSet(process.Architecture);
        if (_platform.GetRegisters(task.ThreadId, ref _registers) != Errno.None || (long)_registers.ReturnValue != -(long)Errno.EINTR
            || !ProcStatus.TryRead(_platform, task.ThreadId, out ProcStatus? status, out _) || ((status!.SigPnd | status.ShdPnd) & ~status.SigBlk) != 0)
        {
            return;
        }

        // arm64 forgets the call before it reports the stop: it is known from before.
        ProcSystemCall before = task.CallBeforeInterrupt;
        bool isX64 = process.Architecture == Architecture.X64;
        bool isKnown = isX64
            || (!before.IsRunning && before.ProgramCounter == _registers.ProgramCounter && before.StackPointer == _registers.StackPointer);
        long number = isX64 ? (long)_registers[X64Register.OrigRax] : before.Number;
        if (!isKnown || number < 0 || !(IsEndedByInterruption(process.Architecture, number) || IsEndedOnTimedSocket(process.Architecture, number)))
        {
            return;
        }

        if (isX64)
        {
            _registers[X64Register.Rax] = (ulong)number;
            _registers[X64Register.OrigRax] = ulong.MaxValue;
        }
        else
        {
            // The number is in x8 still; the result has taken the place of the first argument.
            _registers[Arm64Register.X0] = before.GetArgument(0);
        }

        _registers.ProgramCounter -= (uint)SystemCallInstruction.Bytes(process.Architecture).Length;
        _platform.SetRegisters(task.ThreadId, _registers);
    }
}
