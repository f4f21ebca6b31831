using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Whether a stopped thread has executed a trap that was not answered yet: its SIGTRAP waits in the kernel, and what lies behind the trap is not where it stands.</summary>
/// <remarks>
/// A signal that somebody has sent waits in the same way, but for two things: a trap unblocks SIGTRAP, and is not executed within a system call. Where more is asked:
/// <list type="bullet">
/// <item>A thread that is to make a system call of ours goes back to the trap should we die (<c>RemoteSystemCall</c>): there the byte in front of it must be a trap, and the signal may be one that was taken out on the way.</item>
/// <item>A report that looks sent may hide a trap (<c>ControlThread.HidesTrap</c>): nothing waits any more then, and only the registers tell.</item>
/// </list>
/// </remarks>
internal static class PendingTrap
{
    /// <summary>Whether a thread with these registers is behind a trap, which is to be answered before anything is said of where it stands. On arm64 it stands on the trap.</summary>
    public static bool IsBehind(IPlatform platform, int threadId, in RegisterSet registers) =>
        registers.Architecture == Architecture.X64 && (long)registers[X64Register.OrigRax] < 0 && IsDue(platform, threadId);

    /// <summary>Whether a SIGTRAP is reported if the thread goes on, before it executes anything. For who lets it go on for that.</summary>
    public static bool IsDue(IPlatform platform, int threadId) => ProcStatus.TryRead(platform, threadId, out ProcStatus? status, out _) && status!.IsDue(Signal.SIGTRAP);
}
