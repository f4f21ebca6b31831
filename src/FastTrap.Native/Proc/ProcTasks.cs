namespace FastTrap.Native;

/// <summary>/proc/PID/task: the threads of a process. One pass may miss threads that are just being made.</summary>
internal static class ProcTasks
{
    /// <summary>Replaces the contents of <paramref name="threadIds"/>.</summary>
    public static bool TryRead(IPlatform platform, int processId, List<int> threadIds, out Errno error)
    {
        int count = platform.ListProcIds($"/proc/{processId}/task", threadIds);
        error = count < 0 ? (Errno)(-count) : Errno.None;
        return count >= 0;
    }
}
