using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Maps and unmaps memory in the target, by one of its threads that is stopped. Control thread only.</summary>
internal static class RemoteMap
{
    /// <summary>Maps private memory within <paramref name="reach"/> bytes of an address: readable and executable, or for data, writable. The task is stopped, best on a trap: the safest point there is.</summary>
    public static bool TryMapNear(
        ProcessHandle process, TracedTask task, ulong near, ulong reach, ulong length, out ulong start, [NotNullWhen(false)] out string? reason, bool isData = false)
    {
        start = 0;
        Errno error = ReadSeccomp(process, task, out int seccomp);
        if (error != Errno.None)
        {
            reason = $"the thread has ended ({error})";
            return false;
        }

        if (seccomp != 0)
        {
            reason = "the program runs under seccomp, whose filter might kill it for the mmap that is needed";
            return false;
        }

        error = Prepare(process, task, out RemoteThread thread);
        if (error == Errno.None)
        {
            List<SignalInfo> held = [];
            error = RemoteMemoryMap.Map(process.Platform, thread, near, reach, length, held, out start, out WaitStatus last,
                RemoteMemoryMap.PROT_READ | (isData ? RemoteMemoryMap.PROT_WRITE : RemoteMemoryMap.PROT_EXEC));
            TakeOver(process, task, held, last);
        }

        reason = error == Errno.None ? null : $"no memory could be mapped within {reach >> 20} MiB of it ({error})";
        return reason is null;
    }

    /// <summary>Makes memory which the target and the tracer share. The task is stopped; a target under seccomp is refused before anything is done.</summary>
    public static SharedMemoryFailure Share(
        ProcessHandle process, TracedTask task, in SharedMemoryRequest request, ReadOnlySpan<byte> header, out ulong address, out SharedMemory? memory)
    {
        address = 0;
        memory = null;
        Errno error = ReadSeccomp(process, task, out int seccomp);
        if (error != Errno.None || seccomp != 0)
        {
            return error != Errno.None ? new SharedMemoryFailure(SharedMemoryProblem.ThreadEnded, error) : new SharedMemoryFailure(SharedMemoryProblem.Seccomp);
        }

        error = Prepare(process, task, out RemoteThread thread);
        if (error != Errno.None)
        {
            return new SharedMemoryFailure(SharedMemoryProblem.NoSystemCall, error);
        }

        List<SignalInfo> held = [];
        SharedMemoryFailure failure = RemoteSharedMemory.Create(process.Platform, in thread, in request, header, held, out address, out memory, out WaitStatus last);
        TakeOver(process, task, held, last);
        return failure;
    }

    /// <summary>The thread pointer of a stopped thread: the base of fs. x86-64.</summary>
    public static bool TryReadThreadPointer(ProcessHandle process, TracedTask task, out ulong pointer)
    {
        RegisterSet registers = new(process.Architecture);
        bool isRead = process.Platform.GetRegisters(task.ThreadId, ref registers) == Errno.None;
        pointer = isRead ? registers[X64Register.FsBase] : 0;
        return isRead;
    }

    /// <summary>munmap by a stopped thread.</summary>
    public static Errno Unmap(ProcessHandle process, TracedTask task, ulong start, ulong length)
    {
        if (process.Escape.FrameTop - start - 1 < length)
        {
            // The room for frames goes with it.
            process.Escape = process.Escape with { FrameTop = 0 };
        }

        Errno error = Prepare(process, task, out RemoteThread thread);
        if (error != Errno.None)
        {
            return error;
        }

        List<SignalInfo> held = [];
        error = RemoteMemoryMap.Unmap(process.Platform, thread, start, length, held, out WaitStatus last);
        TakeOver(process, task, held, last);
        return error;
    }

    /// <summary>Any other system call by a stopped thread whose result is an error or nothing.</summary>
    public static Errno Invoke(ProcessHandle process, TracedTask task, Func<SystemCallNumbers, int> number, ReadOnlySpan<ulong> arguments)
    {
        Errno error = Prepare(process, task, out RemoteThread thread);
        if (error != Errno.None)
        {
            return error;
        }

        List<SignalInfo> held = [];
        RemoteResult result = RemoteSystemCall.Invoke(process.Platform, thread, number(SystemCallNumbers.Of(process.Architecture)), arguments, held);
        TakeOver(process, task, held, result.LastStatus);
        return result.Failure;
    }

    /// <summary>Gives a signal that was taken from a thread back to the kernel, for that thread.</summary>
    public static void SendAgain(ProcessHandle process, TracedTask task, in SignalInfo signal)
    {
        int processId = task.IsVisitor ? task.ThreadId : process.ProcessId;
        if (process.Platform.QueueSignal(processId, task.ThreadId, signal) != Errno.None)
        {
            // The kernel lets only negative si_code through: such a signal comes back without its details.
            process.Platform.SignalThread(processId, task.ThreadId, signal.si_signo);
        }
    }

    /// <summary>
    /// From a stop for an asynchronous signal: the kernel keeps that signal until the thread goes on. The thread stands in another stop then.
    /// </summary>
    public static Errno PutBack(ProcessHandle process, TracedTask task, int signal)
    {
        List<SignalInfo> held = [];
        Errno error = Prepare(process, task, out RemoteThread thread);
        if (error != Errno.None)
        {
            // Without a way back, then.
            thread = new RemoteThread(process.ProcessId, task.ThreadId, process.Architecture, 0);
        }

        error = RemoteSystemCall.PutBack(process.Platform, thread, signal, held, out WaitStatus last);
        TakeOver(process, task, held, last);
        return error;
    }

    /// <summary>The seccomp mode of a thread: 0 where it may make any system call.</summary>
    public static Errno ReadSeccomp(ProcessHandle process, TracedTask task, out int seccomp)
    {
        if (!ProcStatus.TryReadThread(process.Platform, process.ProcessId, task.ThreadId, out ProcStatus? status, out Errno error))
        {
            // A visitor is no thread of the process.
            _ = ProcStatus.TryRead(process.Platform, task.ThreadId, out status, out error);
        }

        seccomp = status?.Seccomp ?? 0;
        return status is null ? error : Errno.None;
    }

    private static Errno Prepare(ProcessHandle process, TracedTask task, out RemoteThread thread)
    {
        thread = default;
        if (process.SystemCallAddress == 0)
        {
            Errno error = SystemCallInstruction.Find(process.Platform, process.ProcessId, process.Architecture, out ulong address);
            if (error != Errno.None)
            {
                return error;
            }

            process.SystemCallAddress = address;
            if (process.Architecture == Architecture.X64 && EscapeRoute.TryFind(process.Platform, process.ProcessId, out EscapeRoute route))
            {
                process.Escape = route;
            }
        }

        thread = new RemoteThread(process.ProcessId, task.ThreadId, process.Architecture, process.SystemCallAddress, process.Escape, task.HasUnansweredTrap);
        return Errno.None;
    }

    /// <summary>What came in between: signals are sent again, a job-control stop and an end are remembered for when the thread goes on.</summary>
    private static void TakeOver(ProcessHandle process, TracedTask task, List<SignalInfo> held, WaitStatus last)
    {
        foreach (SignalInfo signal in held)
        {
            SendAgain(process, task, signal);
        }

        if (last.Stopped)
        {
            task.InterruptPending = false;
            task.IsJobControlStopped = last.Event == PtraceEvent.Stop
                && last.StopSignal is (Signal.SIGSTOP or Signal.SIGTSTP or Signal.SIGTTIN or Signal.SIGTTOU);
        }
        else if (last.Value != 0 || last.Signaled)
        {
            task.EndStatus = last;
        }
    }
}
