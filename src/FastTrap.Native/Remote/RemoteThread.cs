using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>A stopped thread that is to make system calls for us.</summary>
/// <param name="ProcessId">Its process.</param>
/// <param name="ThreadId">The thread, traced by the calling thread and standing in a stop.</param>
/// <param name="Architecture">The target's.</param>
/// <param name="SystemCallAddress">Where in the target a system call instruction is (<see cref="SystemCallInstruction"/>).</param>
/// <param name="Escape">How the thread comes back if the tracer is killed meanwhile; the default: it does not.</param>
/// <param name="IsBehindTrap">Whether it stands behind a trap that it has executed, and nobody has led it anywhere yet.</param>
internal readonly record struct RemoteThread(
    int ProcessId, int ThreadId, Architecture Architecture, ulong SystemCallAddress, EscapeRoute Escape = default, bool IsBehindTrap = false);

/// <summary>What came of a remote system call.</summary>
/// <param name="Error">
/// None: the call was made and everything restored. ESRCH: the thread died; <paramref name="LastStatus"/> tells how if that was reported
/// here. EPERM: a seccomp filter trapped the call. EFAULT: there is no system call instruction at the given address.
/// </param>
/// <param name="Value">The kernel's result: a negative errno when the call itself failed.</param>
/// <param name="LastStatus">The report which the thread stands in now: a PTRACE_EVENT_STOP, of which SIGSTOP and the like mean a
/// job-control stop.</param>
internal readonly record struct RemoteResult(Errno Error, long Value, WaitStatus LastStatus)
{
    private const int LargestErrno = 4095;

    /// <summary>Why there is no useful value, be it the machinery or the call; None when there is one.</summary>
    public Errno Failure => Error != Errno.None ? Error : Value is < 0 and >= -LargestErrno ? (Errno)(-Value) : Errno.None;
}
