namespace FastTrap;

/// <summary>The kinds of <see cref="ProcessEvent"/>.</summary>
public enum ProcessEventKind
{
    /// <summary>A process was attached to, or created.</summary>
    Joined,

    /// <summary>A followed process forked: the child is traced, and stands at its first instruction until the probes that stand are enabled in it.</summary>
    Forked,

    /// <summary>It executes another program.</summary>
    Executed,

    /// <summary>A library was loaded (<c>dlopen</c>, or the program's own at its start); its constructors have not run.</summary>
    ModuleLoaded,

    /// <summary>A library was unloaded (<c>dlclose</c>); its probes are retired.</summary>
    ModuleUnloaded,

    /// <summary>It ended, was detached from, or was lost: <see cref="ProcessEvent.Exit"/> says which. The last event of a process.</summary>
    Ended,
}

/// <summary>Something that happened to a traced process. Immutable.</summary>
/// <remarks>Source: dt_proc.c, dt_proc_notify.</remarks>
public sealed record ProcessEvent
{
    internal ProcessEvent(ProcessEventKind kind, TracedProcess process, long timestampNs)
    {
        Kind = kind;
        Process = process;
        TimestampNs = timestampNs;
    }

    /// <summary>What happened.</summary>
    public ProcessEventKind Kind { get; }

    /// <summary>The process; of <see cref="ProcessEventKind.Forked"/>, the child.</summary>
    public TracedProcess Process { get; }

    /// <summary>The process's id.</summary>
    public int ProcessId => Process.ProcessId;

    /// <summary>When the tracer saw it: nanoseconds of CLOCK_MONOTONIC.</summary>
    public long TimestampNs { get; }

    /// <summary>Of <see cref="ProcessEventKind.Forked"/>: the parent's id; otherwise 0.</summary>
    public int ParentProcessId { get; internal init; }

    /// <summary>The executable's path of <see cref="ProcessEventKind.Joined"/> and <see cref="ProcessEventKind.Executed"/>, the library's of the module events; otherwise empty.</summary>
    public string Path { get; internal init; } = "";

    /// <summary>Of <see cref="ProcessEventKind.Ended"/>: how; otherwise null.</summary>
    public ProcessExit? Exit { get; internal init; }

    /// <summary>For a log: the process, what happened, and its detail.</summary>
    public override string ToString() => Kind switch
    {
        ProcessEventKind.Forked => $"{ParentProcessId} forked {ProcessId}",
        ProcessEventKind.Ended => $"{ProcessId} ended: {Exit}",
        _ => $"{ProcessId} {Kind switch { ProcessEventKind.Joined => "joined", ProcessEventKind.Executed => "executed", ProcessEventKind.ModuleLoaded => "loaded", _ => "unloaded" }} {Path}",
    };
}
