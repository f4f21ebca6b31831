using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>
/// One controlled process: its threads, its control thread, what happens at its end.
/// </summary>
/// <remarks>
/// Scheme. Everything here belongs to the control thread, except what is immutable, <see cref="Completion"/>, <see cref="AnnounceRelease"/>, and
/// <see cref="ControlThread.InvokeAsync{T}(ProcessHandle, Func{T})"/>, by which other threads ask for something. No lock is held over a wait or over user code.
/// Source: dt_proc.c, dt_proc_t.
/// </remarks>
internal sealed class ProcessHandle
{
    private readonly TaskCompletionSource<ProcessExit> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile bool _isReleaseAnnounced;
    private volatile bool _endsWithThread;

    public ProcessHandle(IPlatform platform, ControlThread thread, int processId, Architecture architecture, bool wasCreated)
    {
        Platform = platform;
        Thread = thread;
        ProcessId = processId;
        Architecture = architecture;
        WasCreated = wasCreated;
        ControlBreakpoints = new ControlBreakpointTable(this);
        StartTime = ProcStat.TryRead(platform, processId, out ProcStat stat, out _) ? stat.StartTime : 0;
    }

    public IPlatform Platform { get; }

    public ControlThread Thread { get; }

    public int ProcessId { get; }

    /// <summary>Clock ticks from boot to its start, which tell it from another process of the same id; 0 if they could not be read.</summary>
    public ulong StartTime { get; }

    public Architecture Architecture { get; }

    public bool WasCreated { get; }

    /// <summary>The followed process which forked this one; null for one that was attached to or created.</summary>
    public ProcessHandle? Parent { get; init; }

    /// <summary>Who is told of the life of this process; null: nobody, and its children are not followed.</summary>
    public IProcessObserver? Observer { get; set; }

    /// <summary>Whether fork children become handles of their own on this control thread, told to <see cref="Observer"/>; else they get clean text and go.</summary>
    public bool FollowsChildren { get; set; }

    /// <summary>Threads by kernel id, visitors included.</summary>
    public Dictionary<int, TracedTask> Tasks { get; } = [];

    /// <summary>The main thread; null once it is gone.</summary>
    public TracedTask? Leader => Tasks.GetValueOrDefault(ProcessId);

    /// <summary>The thread which a create holds until <see cref="ControlThread.ResumeHeld"/>; null before and after.</summary>
    public TracedTask? HeldAtStart { get; set; }

    /// <summary>While a created process is on its way to where it is to stand: called at an exec in place of the observer.</summary>
    public Action? ExecutedBeforeStart { get; set; }

    /// <summary>Who answers traps; null while nothing was ever enabled.</summary>
    public ITrapHandler? Handler { get; set; }

    /// <summary>Whether it has sites from whose traps threads are led. Control thread only.</summary>
    public bool LeadsTraps
    {
        get;
        set
        {
            if (value != field)
            {
                field = value;
                Thread.LeadingProcesses += value ? 1 : -1;
            }
        }
    }

    /// <summary>Who measures for how long threads stand, while changes are under way. Control thread only.</summary>
    public List<StallMeter> StallMeters { get; } = [];

    /// <summary>The library's own breakpoints.</summary>
    public ControlBreakpointTable ControlBreakpoints { get; }

    /// <summary>The watch over the run-time linker of the present program; null while nobody asked for it.</summary>
    public LinkerWatch? Linker { get; set; }

    /// <summary>Whether the watch stays though nothing is enabled: for what may be loaded.</summary>
    public bool KeepsLinkerWatch { get; set; }

    /// <summary>Whether all who may run into traps were looked for when the first was to be written.</summary>
    public bool HasEverybody { get; set; }

    /// <summary>The target's own action for SIGTRAP; null until traps are to be written, or where there is none.</summary>
    public SignalDisposition? TrapDisposition { get; set; }

    /// <summary>The target's own actions for the signals of memory that is not there, SIGSEGV and SIGBUS; empty until code of ours reads memory as it is.</summary>
    public SignalDisposition[] FaultDispositions { get; set; } = [];

    /// <summary>Where a system call instruction stands in the target; 0 until it was looked for.</summary>
    public ulong SystemCallAddress { get; set; }

    /// <summary>How a thread that makes a system call for us comes back if the tracer is killed meanwhile; the default where the program has no such way.</summary>
    public EscapeRoute Escape { get; set; }

    /// <summary>Ends with the exit, the death, the detach or the loss of the process.</summary>
    public Task<ProcessExit> Completion => _completion.Task;

    public bool IsOver => _completion.Task.IsCompleted;

    /// <summary>Its text is clean, and nobody asks for it any more. Threads which did not stop in time, or need not, are let go with their next report.</summary>
    public bool IsReleased { get; set; }

    /// <summary>
    /// Whether somebody is about to release it. Where that is so of all processes of a control thread, their sleeping threads are released by the thread's end,
    /// undisturbed. Any thread may ask.
    /// </summary>
    public bool IsReleaseAnnounced => _isReleaseAnnounced;

    /// <summary>Whether the kernel lets go of it only when the thread ends. Any thread may ask once the release has returned.</summary>
    public bool EndsWithThread
    {
        get => _endsWithThread;
        set => _endsWithThread = value;
    }

    /// <summary>Says that a release follows, which waits for no other: the first of those that were announced returns with the last. Any thread.</summary>
    public void AnnounceRelease() => _isReleaseAnnounced = true;

    /// <summary>Ends it. Control thread only, once.</summary>
    public void Complete(ProcessExit exit) => _completion.SetResult(exit);

    /// <summary>Why work for a process that is over, or whose thread has ended, is refused.</summary>
    public FastTrapException MakeRefusal() => (IsOver ? Completion.Result.Kind : ProcessExitKind.Lost) switch
    {
        ProcessExitKind.Detached =>
            new FastTrapException(FastTrapError.Detached, $"Process {ProcessId} was detached from; attach to it again.", ProcessId),
        ProcessExitKind.Unobservable => new FastTrapException(
            FastTrapError.Detached, $"Process {ProcessId} executed a program that cannot be observed, and was detached from; see the log for the reason.", ProcessId),
        _ => new FastTrapException(FastTrapError.ProcessEnded, $"Process {ProcessId} has ended.", ProcessId),
    };

    /// <summary>Whether a SIGTRAP is an int3's or a brk's.</summary>
    public bool IsTrapInstruction(in SignalInfo info) =>
        info.si_signo == Signal.SIGTRAP
        && info.si_code == (Architecture == Architecture.X64 ? SignalInfo.SI_KERNEL : SignalInfo.TRAP_BRKPT);
}
