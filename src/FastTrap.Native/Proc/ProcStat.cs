namespace FastTrap.Native;

/// <summary>/proc/PID/stat (proc_pid_stat(5)).</summary>
/// <param name="State">As in <see cref="ProcStatus.State"/>.</param>
/// <param name="ParentProcessId">The parent.</param>
/// <param name="Flags">PF_* of the kernel.</param>
/// <param name="StartTime">Clock ticks after boot; with the pid it names one process for all time.</param>
/// <param name="Processor">The CPU it runs, or last ran, on; -1 where the kernel does not say.</param>
/// <param name="RealTimePriority">1 to 99 for threads of the real-time policies; else 0.</param>
/// <param name="ProcessorTime">What its threads have spent on processors, in clock ticks of 10 ms.</param>
internal readonly record struct ProcStat(char State, int ParentProcessId, uint Flags, ulong StartTime, int Processor, int RealTimePriority, TimeSpan ProcessorTime)
{
    private const uint PF_KTHREAD = 0x00200000;
    private const int ParentField = 4;
    private const int FlagsField = 9;
    private const int UserTimeField = 14;
    private const int SystemTimeField = 15;
    private const int StartTimeField = 22;
    private const int ProcessorField = 39;
    private const int RealTimePriorityField = 40;
    private const int TicksPerSecond = 100;

    public bool IsKernelThread => (Flags & PF_KTHREAD) != 0;

    public bool IsZombie => State is 'Z' or 'X';

    public static bool TryRead(IPlatform platform, int processId, out ProcStat stat, out Errno error)
    {
        stat = default;
        byte[]? text = platform.ReadProcFile($"/proc/{processId}/stat", out error);
        if (text is null)
        {
            return false;
        }

        if (!TryParse(text, out stat))
        {
            error = Errno.EINVAL;
            return false;
        }

        return true;
    }

    public static bool TryParse(ReadOnlySpan<byte> text, out ProcStat stat)
    {
        stat = default;

        // The command name is whatever the process chose, parentheses and spaces included: the last parenthesis ends it.
        int end = text.LastIndexOf((byte)')');
        if (end < 0)
        {
            return false;
        }

        ReadOnlySpan<byte> rest = text[(end + 1)..].TrimEnd((byte)'\n');
        if (!ProcText.TryTakeWord(ref rest, out ReadOnlySpan<byte> state) || state.Length != 1)
        {
            return false;
        }

        int parent = 0;
        ulong flags = 0;
        ulong startTime = 0;
        ulong userTime = 0;
        ulong systemTime = 0;
        for (int field = ParentField; field <= StartTimeField; field++)
        {
            if (!ProcText.TryTakeWord(ref rest, out ReadOnlySpan<byte> word)
                || (field == ParentField && !ProcText.TryParse(word, out parent))
                || (field == FlagsField && (!ProcText.TryParse(word, out flags) || flags > uint.MaxValue))
                || (field == UserTimeField && !ProcText.TryParse(word, out userTime))
                || (field == SystemTimeField && !ProcText.TryParse(word, out systemTime))
                || (field == StartTimeField && !ProcText.TryParse(word, out startTime)))
            {
                return false;
            }
        }

        int processor = -1;
        int priority = 0;
        for (int field = StartTimeField + 1; field <= RealTimePriorityField && ProcText.TryTakeWord(ref rest, out ReadOnlySpan<byte> word); field++)
        {
            if ((field == ProcessorField && !ProcText.TryParse(word, out processor))
                || (field == RealTimePriorityField && !ProcText.TryParse(word, out priority)))
            {
                return false;
            }
        }

        stat = new ProcStat((char)state[0], parent, (uint)flags, startTime, processor, priority, new TimeSpan((long)(userTime + systemTime) * (TimeSpan.TicksPerSecond / TicksPerSecond)));
        return true;
    }
}
