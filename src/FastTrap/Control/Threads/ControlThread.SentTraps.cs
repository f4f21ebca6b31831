using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Traps that the kernel has merged with a SIGTRAP which somebody sent.</summary>
/// <remarks>
/// The kernel keeps one SIGTRAP for each thread, with the details of the first. If one that was sent is pending when the thread executes a trap, because the thread had not noticed it yet
/// or blocks it, a single report comes, which looks sent, from behind the trap. Both are due: the trap is served, and the signal comes after it. The other way round, a signal that is
/// sent between the trap and its report is dropped by the kernel, and nobody learns of it.
/// </remarks>
internal sealed partial class ControlThread
{
    /// <summary>Whether a thread that got a SIGTRAP which is no trap instruction's has executed a trap of ours all the same. Its registers are in <c>_registers</c>.</summary>
    private bool HidesTrap(ProcessHandle process, TracedTask task, in SignalInfo info, ulong trapAddress)
    {
        if (info.IsSynchronous || (process.ControlBreakpoints.Find(trapAddress) is null && process.Handler?.IsAnyTrapAt(trapAddress) != true))
        {
            return false;
        }

        if (process.Architecture == Architecture.Arm64)
        {
            // It stands on the trap, and will execute it if it has not: that tells nothing, and need not, unless SIGTRAP is blocked.
            return process.TrapDisposition is { IsKnown: true, IsIgnored: false }
                ? !SignalDisposition.IsNeeded(_platform, process.ProcessId, Signal.SIGTRAP)
                : _platform.GetSignalMask(task.ThreadId, out ulong mask) == Errno.None && IsUnblockedBy(task, mask, Signal.SIGTRAP);
        }

        // Behind a trap one stands only by having executed it; but also with the instruction of one byte done that it displaces. A signal that was sent while the
        // thread stood is reported before it executes anything. The resume flag is the processor's own: a page fault sets it in front of an instruction that has not been executed.
        const ulong ResumeFlag = 1UL << 16;
        RegisterSet now = _registers;
        RegisterSet given = task.ResumedWith;
        now.Words[(int)X64Register.Eflags] &= ~ResumeFlag;
        given.Words[(int)X64Register.Eflags] &= ~ResumeFlag;
        return !now.Words[..RegisterSet.X64WordCount].SequenceEqual(given.Words[..RegisterSet.X64WordCount]);
    }

    /// <summary>A load of ours has faulted: where the thread blocks that signal the kernel has unblocked it, and reset the action, as it does for traps. The thread goes on from another stop then.</summary>
    private void RestoreFault(TracedTask task, int signal)
    {
        if (RestoreFaultMask(task, signal))
        {
            RestoreFaultAction(task.Process, task, signal);
            if (task.Visit is not null)
            {
                // An interruption was taken for that.
                Interrupt(task);
            }
        }
    }

    /// <summary>
    /// Blocks the signal again where it is certain that the thread did: its mask was so when it was seen last, or it blocks the other synchronous signals, and the action is gone. Whether the action may have to be put back.
    /// </summary>
    private bool RestoreFaultMask(TracedTask task, int signal)
    {
        ProcessHandle process = task.Process;
        bool isKnown = Array.Exists(process.FaultDispositions, d => d.Number == signal);
        bool isGone = isKnown && !SignalDisposition.IsNeeded(_platform, process.ProcessId, signal);
        if ((isKnown && !isGone) || task.HeldSignal.si_signo != 0 || _platform.GetSignalMask(task.ThreadId, out ulong mask) != Errno.None
            || !(isGone ? IsUnblockedBy(task, mask, signal) : (mask | Signal.Bit(signal)) == task.KnownMask && mask != task.KnownMask))
        {
            // Where the action is still there, the signal was not blocked.
            return false;
        }

        mask |= Signal.Bit(signal);
        _platform.SetSignalMask(task.ThreadId, mask);
        task.KnownMask = mask;
        return isGone;
    }

    private void RestoreFaultAction(ProcessHandle process, TracedTask task, int signal)
    {
        if (Array.Find(process.FaultDispositions, d => d.Number == signal && d.IsKnown) is not { } known)
        {
            return;
        }

        Errno error = RemoteMap.ReadSeccomp(process, task, out int seccomp);
        error = seccomp != 0 ? Errno.EPERM : error == Errno.None && known.IsReset(process, task) ? known.Restore(process, task) : error;
        if (error != Errno.None)
        {
            Log.DispositionNotRestored(_logger, process.ProcessId, (int)error);
        }
    }

    /// <summary>Makes two of the one report: the signal waits in the kernel for the thread to go on, and the stop is the trap's. False if the thread has died.</summary>
    private bool ServeTrapFirst(ProcessHandle process, TracedTask task, in SignalInfo info)
    {
        task.StoppedByTrapInstruction = true;
        if (task.HeldSignal.si_signo != 0)
        {
            (task.HeldBehind ??= []).Add(info);
            return true;
        }

        Errno error = RemoteMap.PutBack(process, task, info.si_signo);
        if (error == Errno.ESRCH)
        {
            // If its end has been reported meanwhile, that is what follows.
            Resume(task, 0);
            return false;
        }

        if (error != Errno.None)
        {
            RemoteMap.SendAgain(process, task, info);
        }

        return true;
    }
}
