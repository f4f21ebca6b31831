using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Whether a stopped thread has executed a trap that was not answered yet: its SIGTRAP waits in the kernel, and what lies behind the trap is not where it stands. x86-64; on arm64 it stands on the trap.</summary>
/// <remarks>
/// A signal that somebody has sent waits in the same way. So each question is asked such that taking one for the other does no harm:
/// <list type="bullet">
/// <item><see cref="Exists"/>: who is about to be moved stays where it is.</item>
/// <item><see cref="IsDue"/>: who gets it with the next step it is let take (a trap unblocks SIGTRAP, so one that is blocked was sent) is let go on for it, and is looked at, or detached, behind that report.</item>
/// <item>A thread that is to make a system call of ours goes back to the trap should we die (<c>RemoteSystemCall</c>): there the byte in front of it must be a trap, and the signal may be one that was taken out on the way.</item>
/// <item>A report that looks sent may hide a trap (<c>ControlThread.HidesTrap</c>): nothing waits any more then, and only the registers tell.</item>
/// </list>
/// </remarks>
internal static class PendingTrap
{
    public static bool Exists(IPlatform platform, int threadId) => ProcStatus.TryRead(platform, threadId, out ProcStatus? status, out _) && status!.IsPending(Signal.SIGTRAP);

    public static bool IsDue(IPlatform platform, int threadId) => ProcStatus.TryRead(platform, threadId, out ProcStatus? status, out _) && status!.IsDue(Signal.SIGTRAP);
}
