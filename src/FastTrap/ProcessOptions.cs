namespace FastTrap;

/// <summary>Settings of <see cref="Tracer.AttachAsync"/>.</summary>
public sealed class AttachOptions
{
    /// <summary>
    /// Whether processes that it forks are traced, too, from their first instruction, and their children. They appear in <see cref="Tracer.Processes"/>, standing
    /// enablings are enabled in them. Default: false, they get clean text and are left alone.
    /// </summary>
    public bool FollowChildren { get; init; }

    /// <summary>
    /// Whether the descendants that it has already are attached to as well, with the same settings, except for the tracer's own process. One that is
    /// refused is left out, and listed in <see cref="TracedProcess.RefusedDescendants"/>. Default: false.
    /// </summary>
    public bool IncludeDescendants { get; init; }
}

/// <summary>Settings of <see cref="Tracer.CreateAsync"/>.</summary>
public sealed class CreateOptions
{
    /// <summary>
    /// Whether processes that it forks are traced, too, from their first instruction, and their children. They appear in <see cref="Tracer.Processes"/>, standing
    /// enablings are enabled in them. Default: false, they get clean text and are left alone.
    /// </summary>
    public bool FollowChildren { get; init; }

    /// <summary>Where the new process stands when <see cref="Tracer.CreateAsync"/> returns. Default <see cref="CreateStop.Entry"/>.</summary>
    public CreateStop StopAt { get; init; } = CreateStop.Entry;

    /// <summary>The working directory, or null for the tracer's.</summary>
    public string? WorkingDirectory { get; init; }

    /// <summary>The whole environment, or null for the tracer's.</summary>
    public IReadOnlyDictionary<string, string>? Environment { get; init; }

    /// <summary>A file to read as standard input, or null to share the tracer's.</summary>
    public string? StandardInput { get; init; }

    /// <summary>A file to create or truncate as standard output, or null to share the tracer's.</summary>
    public string? StandardOutput { get; init; }

    /// <summary>A file to create or truncate as standard error, or null to share the tracer's.</summary>
    public string? StandardError { get; init; }

    /// <summary>Whether disposing the process kills it if it still runs (true, the default), or lets it run on.</summary>
    public bool KillOnDispose { get; init; } = true;
}

/// <summary>Where a created process waits for <see cref="TracedProcess.ResumeAsync"/>.</summary>
public enum CreateStop
{
    /// <summary>At the executable's entry point: its libraries are loaded and initialised, <c>main</c> has not begun. Probes of libraries can be enabled here.</summary>
    Entry,

    /// <summary>At the exec itself: nothing has run, no library is loaded.</summary>
    Exec,

    /// <summary>
    /// When the run-time linker has loaded and relocated the program's libraries, before any constructor runs: those of libraries can be probed. A static program has
    /// none, and stands at its entry point.
    /// </summary>
    PreInit,

    /// <summary>
    /// When the constructors of the libraries have run: at the entry point, where those of the program itself have not run yet. With musl, whose constructors all run between the
    /// entry point and main, it is main.
    /// </summary>
    PostInit,

    /// <summary>
    /// At the first instruction of main: all constructors have run. It is found by its symbol, or, in a stripped program, by what the C library is
    /// given to start. A program that has neither (stripped and static, or not written in C) is refused with <see cref="FastTrapError.StopUnavailable"/>.
    /// </summary>
    Main,
}

/// <summary>How a process ended, or how it was lost.</summary>
/// <param name="Kind">What happened.</param>
/// <param name="ExitCode">The exit code (0 to 255) when it exited; otherwise 0.</param>
/// <param name="Signal">The number of the signal which killed it; otherwise 0.</param>
public readonly record struct ProcessExit(ProcessExitKind Kind, int ExitCode, int Signal)
{
    /// <summary>The exit code as a shell gives it: the code, or 128 plus the signal.</summary>
    public int ShellExitCode => Kind == ProcessExitKind.Killed ? 128 + Signal : ExitCode;
}

/// <summary>The kinds of <see cref="ProcessExit"/>.</summary>
public enum ProcessExitKind
{
    /// <summary>It exited with a code.</summary>
    Exited,

    /// <summary>A signal killed it.</summary>
    Killed,

    /// <summary>We detached while it lived.</summary>
    Detached,

    /// <summary>The kernel took it away from us (another tracer's doing); it may live on.</summary>
    Lost,

    /// <summary>
    /// It executed a program that cannot be observed (of another architecture, or one this user may not read), and was let go. It lives on, not traced.
    /// </summary>
    Unobservable,
}
