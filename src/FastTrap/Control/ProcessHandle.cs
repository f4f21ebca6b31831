using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>
/// One controlled process: its threads, its control thread, what happens at its end.
/// </summary>
/// <remarks>
/// Scheme. Everything here belongs to the control thread, except what is immutable, <see cref="Completion"/>, and
/// <see cref="ControlThread.InvokeAsync{T}"/>, by which other threads ask for something. No lock is held over a wait or over user code.
/// Source: dt_proc.c, dt_proc_t.
/// </remarks>
internal sealed class ProcessHandle
{
    private readonly TaskCompletionSource<ProcessExit> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public ProcessHandle(IPlatform platform, ControlThread thread, int processId, Architecture architecture, bool wasCreated)
    {
        Platform = platform;
        Thread = thread;
        ProcessId = processId;
        Architecture = architecture;
        WasCreated = wasCreated;
    }

    public IPlatform Platform { get; }

    public ControlThread Thread { get; }

    public int ProcessId { get; }

    public Architecture Architecture { get; }

    public bool WasCreated { get; }

    /// <summary>Threads by kernel id, visitors included.</summary>
    public Dictionary<int, TracedTask> Tasks { get; } = [];

    /// <summary>Who answers traps; null while nothing was ever enabled.</summary>
    public ITrapHandler? Handler { get; set; }

    /// <summary>The library's own breakpoints, by address.</summary>
    public Dictionary<ulong, ControlBreakpoint> ControlBreakpoints { get; } = [];

    /// <summary>The target's own action for SIGTRAP; null until traps are to be written, or where there is none.</summary>
    public TrapDisposition? TrapDisposition { get; set; }

    /// <summary>Where a system call instruction stands in the target; 0 until it was looked for.</summary>
    public ulong SystemCallAddress { get; set; }

    /// <summary>Called on the control thread when the process executed another program: the handler is gone with the old one.</summary>
    public Action? Executed { get; set; }

    /// <summary>Ends with the exit, the death, the detach or the loss of the process.</summary>
    public Task<ProcessExit> Completion => _completion.Task;

    public bool IsOver => _completion.Task.IsCompleted;

    public void Complete(ProcessExit exit) => _completion.TrySetResult(exit);

    /// <summary>Whether a SIGTRAP is an int3's or a brk's.</summary>
    public bool IsTrapInstruction(in SignalInfo info) =>
        info.si_signo == Signal.SIGTRAP
        && info.si_code == (Architecture == Architecture.X64 ? SignalInfo.SI_KERNEL : SignalInfo.TRAP_BRKPT);
}
