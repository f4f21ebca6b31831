using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>What a traced thread is doing, as far as we know.</summary>
internal enum TaskState
{
    Running,
    Stopped,
    Listening,
}

/// <summary>One traced thread of the target. Used by its control thread only.</summary>
internal sealed class TracedTask(int threadId, ProcessHandle process)
{
    public int ThreadId { get; } = threadId;

    public ProcessHandle Process { get; } = process;

    /// <summary>True for a vfork child (or another process) which runs in the address space of <see cref="Process"/>; it is left at its exec.</summary>
    public bool IsVisitor { get; init; }

    public TaskState State { get; set; }

    /// <summary>When its stop may have begun (ticks of the clock); 0 while nobody measures.</summary>
    public long StoppedSince { get; set; }

    /// <summary>When it last went on while somebody measured.</summary>
    public long WentOn { get; set; }

    /// <summary>The round of turns in which it reported last.</summary>
    public int LastRound { get; set; }

    /// <summary>Kept in its stop until all who hold it have released it (<see cref="ControlThread.Release"/>).</summary>
    public bool IsHeld => Holds != 0;

    /// <summary>How many hold it.</summary>
    public int Holds { get; set; }

    /// <summary>
    /// Held at a control breakpoint that stands, which it has been served for: it runs into it once more when it goes on. The stack pointer tells that pass
    /// from one of a signal handler in between. 0: none.
    /// </summary>
    public ulong PassedBreakpoint { get; set; }

    /// <summary>The stack pointer at <see cref="PassedBreakpoint"/>.</summary>
    public ulong PassedStackPointer { get; set; }

    /// <summary>We sent PTRACE_INTERRUPT and have not seen the stop yet.</summary>
    public bool InterruptPending { get; set; }

    /// <summary>Its last stop is one that we asked for.</summary>
    public bool WasInterrupted { get; set; }

    /// <summary>What the thread slept in just before it was interrupted; kept for arm64 only.</summary>
    public ProcSystemCall CallBeforeInterrupt { get; set; }

    /// <summary>Stopped where it will go on sleeping until its vfork child has gone: it can make no system call for us.</summary>
    public bool IsAtVfork { get; set; }

    /// <summary>Stopped on a trap, and nobody has said yet how it goes on: its pc is where the trap left it.</summary>
    public bool HasUnansweredTrap { get; set; }

    /// <summary>The trap from which it was led before the report of its stop was taken; 0: it was not.</summary>
    public ulong LedFrom { get; set; }

    /// <summary>Stopped by job control while it was held or made a remote system call: it is to be left there, not continued.</summary>
    public bool IsJobControlStopped { get; set; }

    /// <summary>The thread ended during a remote system call, with this report.</summary>
    public WaitStatus? EndStatus { get; set; }

    /// <summary>It is to be looked at when it stops; null: by nobody.</summary>
    public IThreadVisit? Visit { get; set; }

    /// <summary>The signal in front of which it stands until the handler has prepared for it; 0: none.</summary>
    public int StandingSignal { get; set; }

    /// <summary>The signal mask as last seen, to notice a SIGTRAP that the kernel unblocked.</summary>
    public ulong KnownMask { get; set; }

    /// <summary>A signal taken from the thread while it was out of line, to be given back; <see cref="SignalInfo.si_signo"/> 0 means none.</summary>
    public SignalInfo HeldSignal;

    /// <summary>
    /// Signals that came while <see cref="HeldSignal"/> was held, all of kinds that faults have and so cannot be blocked meanwhile; they are sent again when that one is
    /// given back. Null until there is one, which is rare.
    /// </summary>
    public List<SignalInfo>? HeldBehind { get; set; }

    /// <summary>The mask to restore with <see cref="HeldSignal"/>.</summary>
    public ulong HeldMask { get; set; }

    /// <summary>What the handler remembers of this thread.</summary>
    public object? HandlerState { get; set; }

    /// <summary>Keeps it in its stop, or in the next one, until as many releases as holds. Control thread only.</summary>
    public void Hold() => Holds++;

    /// <summary>
    /// Whether the SIGTRAP the thread stopped with is that of a trap instruction which it has executed, not one that somebody sent.
    /// </summary>
    public bool StoppedByTrapInstruction { get; set; }

    /// <summary>The registers it was given when it last went on from a trap.</summary>
    public RegisterSet ResumedWith;
}
