namespace FastTrap.Control;

/// <summary>
/// Told of the lives of processes. All methods run on the control thread of the process, in the kernel's order, never two at once for one control thread:
/// of one process first its fork, then its executions, last its end, each exactly once.
/// </summary>
/// <remarks>
/// A method must return soon, for the threads of all processes of the control thread wait, and cannot ask anything of the control thread by
/// <see cref="ControlThread.InvokeAsync{T}(ProcessHandle, Func{T})"/>: it may call <see cref="TracedTask.Hold"/>, and later, in posted work,
/// <see cref="ControlThread.Release"/>. It may be called in the middle of other posted work which waits for a thread. An exception is logged.
/// Source: dt_proc.c, dt_proc_notify.
/// </remarks>
internal interface IProcessObserver
{
    /// <summary>
    /// A process of whom <see cref="ProcessHandle.FollowsChildren"/> is true made another. The child stands, with clean text, before the first instruction
    /// it has to itself (a vfork child: at its exec), and its <see cref="ProcessHandle.Leader"/> is held once: it runs when that is released.
    /// It has inherited the observer, which the method may replace.
    /// </summary>
    void OnForked(ProcessHandle parent, ProcessHandle child);

    /// <summary>The process stands at the exec of another program, and goes on at the return unless its leader is held.</summary>
    void OnExecuted(ProcessHandle process);

    /// <summary>The run-time linker has changed what is loaded, the list is consistent, and the thread stands at its breakpoint.</summary>
    void OnLinkerActivity(ProcessHandle process, TracedTask task);

    /// <summary>The process ended, was let go or was lost. Not called for a process that ended before it was announced.</summary>
    void OnEnded(ProcessHandle process, ProcessExit exit);
}
