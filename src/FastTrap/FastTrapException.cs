namespace FastTrap;

/// <summary>What went wrong, for callers who act on it.</summary>
public enum FastTrapError
{
    /// <summary>No specific code: see the message.</summary>
    Unknown,

    /// <summary>No such process, or it has ended.</summary>
    NoSuchProcess,

    /// <summary>The kernel does not let this user trace that process; the message names the setting or capability.</summary>
    PermissionDenied,

    /// <summary>Another tracer (a debugger, strace) is attached already.</summary>
    AlreadyTraced,

    /// <summary>A thread of the kernel, which has no user code.</summary>
    KernelThread,

    /// <summary>The process has ended and waits for its parent (a zombie).</summary>
    Zombie,

    /// <summary>The program's architecture is not supported (32-bit, or not x86-64).</summary>
    UnsupportedArchitecture,

    /// <summary>The program runs with a user shadow stack (CET), which emulated calls and returns would put out of step.</summary>
    ShadowStack,

    /// <summary>A program which cannot be started (missing, not executable, a bad format).</summary>
    CannotStart,

    /// <summary>A created program has no such place to wait at as <see cref="CreateOptions.StopAt"/> asks for, or it cannot be found.</summary>
    StopUnavailable,

    /// <summary>A description that matches no probe.</summary>
    NoMatch,

    /// <summary>A file which is not a valid ELF file.</summary>
    InvalidFile,

    /// <summary>The process ended, or executed another program, while it was being worked on.</summary>
    ProcessEnded,

    /// <summary>The object was disposed, or its process was detached.</summary>
    Detached,

    /// <summary>A read-only view of a process that was attached to since, or of one that ended: open a new one.</summary>
    Stale,

    /// <summary>An earlier tracer has left something in the process that cannot be understood; nothing of it was touched.</summary>
    LeftoversNotUnderstood,

    /// <summary>The process cannot be let go of with its probes in place: some need the tracer.</summary>
    NeedsTracer,

    /// <summary>The limit on tracepoints is reached (<see cref="TracerOptions.MaximumTracepoints"/>).</summary>
    TooManyTracepoints,

    /// <summary>Target memory could not be read or written.</summary>
    MemoryAccess,

    /// <summary>A request to the kernel failed in a way that is not told apart above; see <see cref="FastTrapException.ErrorNumber"/>.</summary>
    KernelRefused,
}

/// <summary>The one exception of this library for what is not an argument error. Its message ends with what to do.</summary>
public sealed class FastTrapException : Exception
{
    /// <summary>Makes an exception.</summary>
    /// <param name="error">The code.</param>
    /// <param name="message">What happened and what to do.</param>
    /// <param name="processId">The process concerned, or 0.</param>
    /// <param name="errorNumber">errno, or 0.</param>
    /// <param name="address">The target address concerned, or 0.</param>
    /// <param name="innerException">The cause, if there is one.</param>
    public FastTrapException(
        FastTrapError error, string message, int processId = 0, int errorNumber = 0, ulong address = 0, Exception? innerException = null)
        : base(message, innerException)
    {
        Error = error;
        ProcessId = processId;
        ErrorNumber = errorNumber;
        Address = address;
    }

    /// <summary>The code.</summary>
    public FastTrapError Error { get; }

    /// <summary>The process concerned, or 0.</summary>
    public int ProcessId { get; }

    /// <summary>errno of Linux, or 0.</summary>
    public int ErrorNumber { get; }

    /// <summary>The target's virtual address concerned, or 0.</summary>
    public ulong Address { get; }
}
