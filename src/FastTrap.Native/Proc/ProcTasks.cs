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

    /// <summary>Adds the processes that a thread has made. Where the kernel keeps no list of them, those of its whole process.</summary>
    public static void AddChildren(IPlatform platform, int processId, int threadId, List<int> childIds)
    {
        byte[]? children = platform.ReadProcFile($"/proc/{processId}/task/{threadId}/children", out Errno error);
        if (children is not null)
        {
            ReadOnlySpan<byte> rest = children;
            while (ProcText.TryTakeWord(ref rest, out ReadOnlySpan<byte> word))
            {
                if (ProcText.TryParse(word, out int id))
                {
                    childIds.Add(id);
                }
            }
        }
        else if (error == Errno.ENOENT && threadId == processId)
        {
            List<int> ids = [];
            _ = platform.ListProcIds("/proc", ids);
            childIds.AddRange(ids.Where(id => ProcStat.TryRead(platform, id, out ProcStat stat, out _) && stat.ParentProcessId == processId));
        }
    }
}
