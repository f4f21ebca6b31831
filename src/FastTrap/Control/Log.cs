using Microsoft.Extensions.Logging;

namespace FastTrap.Control;

/// <summary>What control logs. Nothing on the hit path.</summary>
internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Information, "Attached to process {ProcessId}, {Threads} threads")]
    public static partial void Attached(ILogger logger, int processId, int threads);

    [LoggerMessage(2, LogLevel.Information, "Created process {ProcessId}: {Path}")]
    public static partial void Created(ILogger logger, int processId, string path);

    [LoggerMessage(3, LogLevel.Information, "Detached from process {ProcessId}")]
    public static partial void Detached(ILogger logger, int processId);

    [LoggerMessage(4, LogLevel.Information, "Process {ProcessId} ended, wait status {Status:X}")]
    public static partial void ProcessEnded(ILogger logger, int processId, int status);

    [LoggerMessage(5, LogLevel.Warning, "Process {ProcessId} is no longer traced by us, and its end was not reported")]
    public static partial void ProcessLost(ILogger logger, int processId);

    [LoggerMessage(6, LogLevel.Error, "The control thread of process {ProcessId} failed; its text is restored and it is released")]
    public static partial void ControlThreadFailed(ILogger logger, Exception exception, int processId);

    [LoggerMessage(7, LogLevel.Error, "The text of process {ProcessId} could not be restored")]
    public static partial void RestoreFailed(ILogger logger, Exception exception, int processId);

    [LoggerMessage(8, LogLevel.Error, "Process {ProcessId}: the instruction at {Address:X} could not be restored (errno {ErrorNumber})")]
    public static partial void TextNotRestored(ILogger logger, int processId, ulong address, int errorNumber);

    [LoggerMessage(9, LogLevel.Warning, "Process {ProcessId}: {Count} threads did not stop in time for the detach")]
    public static partial void DetachIncomplete(ILogger logger, int processId, int count);

    [LoggerMessage(10, LogLevel.Warning, "Process {ProcessId}: {Count} areas for displaced instructions stay mapped, unused")]
    public static partial void AreasLeft(ILogger logger, int processId, int count);

    [LoggerMessage(11, LogLevel.Warning, "Process {ProcessId}: the probe site at {Address:X} was withdrawn: {Reason}")]
    public static partial void SiteWithdrawn(ILogger logger, int processId, ulong address, string reason);

    [LoggerMessage(12, LogLevel.Error, "Fork child {ProcessId} could not be opened to remove inherited probes (errno {ErrorNumber})")]
    public static partial void ForkChildNotCleaned(ILogger logger, int processId, int errorNumber);

    [LoggerMessage(13, LogLevel.Warning, "Process {ProcessId}: an action of it for a signal could not be restored (errno {ErrorNumber})")]
    public static partial void DispositionNotRestored(ILogger logger, int processId, int errorNumber);

    [LoggerMessage(14, LogLevel.Warning, "Process {ProcessId}: an action of it for a signal could not be learned (errno {ErrorNumber}); it is lost if a thread that blocks the signal is probed")]
    public static partial void DispositionNotLearned(ILogger logger, int processId, int errorNumber);

    [LoggerMessage(15, LogLevel.Information, "Following process {ProcessId}, a child of process {ParentId}")]
    public static partial void Followed(ILogger logger, int processId, int parentId);

    [LoggerMessage(16, LogLevel.Warning, "Process {ProcessId} executed a program that cannot be observed, and runs on without us: {Reason}")]
    public static partial void Unobservable(ILogger logger, int processId, string reason);

    [LoggerMessage(17, LogLevel.Error, "An observer failed when it was told of process {ProcessId}")]
    public static partial void ObserverFailed(ILogger logger, Exception exception, int processId);

    [LoggerMessage(18, LogLevel.Warning, "Process {ProcessId}, whose parent died while making it, was let go; probes it inherited may stand in its text")]
    public static partial void UnknownChildReleased(ILogger logger, int processId);

    [LoggerMessage(19, LogLevel.Warning, "Process {ProcessId} could not be left stopped (errno {ErrorNumber}); it runs on")]
    public static partial void NotLeftStopped(ILogger logger, int processId, int errorNumber);

    [LoggerMessage(20, LogLevel.Warning, "Process {ProcessId} could not be killed (errno {ErrorNumber}); it is detached from")]
    public static partial void NotKilled(ILogger logger, int processId, int errorNumber);

    [LoggerMessage(21, LogLevel.Warning, "The run-time linker of process {ProcessId} cannot be watched: {Problem}")]
    public static partial void LinkerNotWatched(ILogger logger, int processId, string problem);

    [LoggerMessage(22, LogLevel.Warning, "Process {ProcessId}: the control breakpoint at {Address:X} was given up, for its instruction could not be emulated")]
    public static partial void BreakpointGivenUp(ILogger logger, int processId, ulong address);

    [LoggerMessage(23, LogLevel.Warning, "Process {ProcessId}: '{Description}' cost more than its budget allows and was disabled")]
    public static partial void OverBudget(ILogger logger, int processId, string description);

    [LoggerMessage(24, LogLevel.Error, "{Count} processes were not released in the time that a dispose may take; their text was restored")]
    public static partial void DisposeIncomplete(ILogger logger, int count);

    [LoggerMessage(25, LogLevel.Warning, "Process {ProcessId}: {Count} jumps could not be taken out in time; they lead, and are tried again")]
    public static partial void JumpsLeft(ILogger logger, int processId, int count);

    [LoggerMessage(26, LogLevel.Warning, "Process {ProcessId}: an earlier tracer (process {OwnerProcessId}) had left {SiteCount} probes and {RegionCount} mappings, which were removed; {LeftCount} mappings stay")]
    public static partial void LeftoversRemoved(ILogger logger, int processId, int ownerProcessId, int siteCount, int regionCount, int leftCount);

    [LoggerMessage(27, LogLevel.Warning, "The runtime does not compile the library's methods before they are called; threads that stop while the first query is enabled may stand for some tens of milliseconds")]
    public static partial void NotRehearsed(ILogger logger, Exception exception);

    [LoggerMessage(40, LogLevel.Error, "Process {ProcessId}: the semaphore at {Address:X} could not be lowered (errno {ErrorNumber}); the program goes on preparing arguments for a probe that nobody has enabled")]
    public static partial void SemaphoreNotLowered(ILogger logger, int processId, ulong address, int errorNumber);
}
