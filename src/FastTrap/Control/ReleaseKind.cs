namespace FastTrap;

/// <summary>What becomes of a process when its last user lets go of it.</summary>
public enum ReleaseKind
{
    /// <summary>It runs on. One that was stopped by job control stays stopped.</summary>
    Run,

    /// <summary>It is left in a job-control stop (SIGSTOP), from which SIGCONT lets it go on: for a debugger, say.</summary>
    LeaveStopped,

    /// <summary>It is killed (SIGKILL).</summary>
    Kill,
}
