using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>How a thread that stopped on a trap goes on.</summary>
internal enum TrapOutcome
{
    /// <summary>The trap is none of the handler's: control decides whether it is stale or the target's own.</summary>
    NotOurs,

    /// <summary>Go on with the registers as they were read.</summary>
    Continue,

    /// <summary>Write the registers back, then go on.</summary>
    ContinueModified,

    /// <summary>Write the registers back, then go on with the signal in <see cref="TracedTask.HeldSignal"/>.</summary>
    ContinueWithSignal,
}

/// <summary>What happens to a signal that is about to be delivered to a thread which is out of line.</summary>
internal enum SignalOutcome
{
    /// <summary>Deliver it; registers and signal information were put right.</summary>
    Deliver,

    /// <summary>Hold it in <see cref="TracedTask.HeldSignal"/> until the displaced instruction is done; registers were moved for that.</summary>
    Hold,

    /// <summary>The thread is to be stepped out of line first; then it is delivered.</summary>
    StepOut,

    /// <summary>It is the handler's own, and over: the thread goes on.</summary>
    Ignore,

    /// <summary>The thread stands as it is until the handler asks for <see cref="ControlThread.ReleaseStanding"/>: then it is asked again.</summary>
    Stand,
}

/// <summary>
/// What control asks of the engine: control knows threads and stops, never what a probe is for; the engine never calls ptrace.
/// All methods run on the control thread.
/// </summary>
internal interface ITrapHandler
{
    /// <summary>A thread executed a trap at <paramref name="trapAddress"/>; its registers have the pc as the kernel left it.</summary>
    TrapOutcome OnTrap(TracedTask task, ref RegisterSet registers, ulong trapAddress);

    /// <summary>Where a thread that has executed a trap at an address goes on, whoever answers it: code in the target does so, too, where there is no tracer. 0: only <see cref="OnTrap"/> can tell.</summary>
    ulong FindWayFrom(ulong trapAddress);

    /// <summary>The thread whose trap the handler answered last goes on.</summary>
    void OnResumed();

    /// <summary>Whether a trap of the handler's stood at an address a moment ago, so that a thread may still be stopped on it.</summary>
    bool WasTrap(ulong address);

    /// <summary>A trap of the library's own is about to be written.</summary>
    void BeforeTrap(ulong address);

    /// <summary>Whether a trap of the handler's stands at an address.</summary>
    bool IsTrapAt(ulong address);

    /// <summary>
    /// Whether a trap of the handler's stands at an address, in its own memory as well, or stood there a moment ago in place of an instruction longer than the trap: a thread just
    /// behind it has executed it.
    /// </summary>
    bool IsAnyTrapAt(ulong address);

    /// <summary>Replaces the handler's traps in bytes that were read by what they displaced.</summary>
    void Unmask(ulong address, Span<byte> bytes);

    /// <summary>A library was unmapped: its traps went with it, and other memory may take the place.</summary>
    void OnUnmapped(ulong start, ulong length);

    /// <summary>Whether an address is in memory which the handler placed in the target.</summary>
    bool IsOutOfLine(ulong address);

    /// <summary>Whether an address out of line is such that a thread is to be stepped out, rather than moved, before its registers mean anything.</summary>
    bool IsToStepOut(ulong address);

    /// <summary>Whether a handler of SIGTRAP stands in the target that an earlier tracer has left.</summary>
    bool HasOtherGuard { get; }

    /// <summary>A thread is stepped out with its signals blocked: its own mask, which it gets back in the target if the tracer is killed meanwhile; null: it has it back. One thread at a time.</summary>
    void KeepMask(TracedTask task, ulong? mask);

    /// <summary>A thread faults at its pc: moves it on if that is a load of a program, which may find nothing.</summary>
    bool TrySkipLoad(ref RegisterSet registers);

    /// <summary>A signal is about to be delivered to a thread whose pc is out of line.</summary>
    SignalOutcome OnSignalOutOfLine(TracedTask task, ref RegisterSet registers, ref SignalInfo info);

    /// <summary>Puts the registers of a stopped thread to where it would be in the original code.</summary>
    void LeaveOutOfLine(TracedTask task, ref RegisterSet registers);

    /// <summary>Whether a stopped process sees the memory of this one, found out by a change that nobody notices. For kernels that do not say.</summary>
    bool SharesMemory(int processId);

    /// <summary>Removes what a fork child inherited: traps in its copy of the text. The child is stopped.</summary>
    void CleanForkChild(int childProcessId, ref RegisterSet registers, out bool registersModified);

    /// <summary>Whether an address lies in text that a jump displaces: no other trap can be set there.</summary>
    bool IsDisplaced(ulong address);

    /// <summary>Takes out what cannot be taken out at once: threads are looked at meanwhile. Before <see cref="RestoreText"/>, at a detach.</summary>
    void BeginRelease();

    /// <summary>Restores the whole text, now, before a detach.</summary>
    void RestoreText();

    /// <summary>Whether the action for SIGTRAP stays as it is at the detach.</summary>
    bool KeepsTrapAction { get; }

    /// <summary>At a detach, before memory is unmapped: the text is as it was, and no thread is in code of ours. What was written down in the target for a later tracer ends.</summary>
    void OnEverybodyOut();

    /// <summary>Memory mapped in the target in which threads may be: start and length pairs.</summary>
    IReadOnlyList<(ulong Start, ulong Length)> MappedAreas { get; }

    /// <summary>What of it a detach should unmap.</summary>
    IReadOnlyList<(ulong Start, ulong Length)> AreasToUnmap { get; }

    /// <summary>The address space is gone (exec or exit): forget all of it; nothing can be written any more.</summary>
    void OnAddressSpaceGone();
}
