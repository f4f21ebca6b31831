using System.Text;

namespace FastTrap.Native;

/// <summary>
/// /proc/PID/status (proc_pid_status(5)), as far as this library asks. Fields the kernel does not write are zero or empty.
/// </summary>
internal sealed class ProcStatus
{
    /// <summary>The command name, with the kernel's escapes (\n and \\) as they stand.</summary>
    public string Name { get; private set; } = string.Empty;

    /// <summary>R, S, D, T (stopped), t (traced), Z, X, I ...</summary>
    public char State { get; private set; } = '?';

    /// <summary>The process of the thread.</summary>
    public int Tgid { get; private set; }

    public int PPid { get; private set; }

    /// <summary>Who traces it, or 0.</summary>
    public int TracerPid { get; private set; }

    public uint RealUid { get; private set; }

    public uint EffectiveUid { get; private set; }

    public uint SavedUid { get; private set; }

    public uint FileSystemUid { get; private set; }

    /// <summary>0 none, 1 strict, 2 filter.</summary>
    public int Seccomp { get; private set; }

    public bool HasShadowStack { get; private set; }

    /// <summary>prctl PR_SET_NO_NEW_PRIVS.</summary>
    public bool NoNewPrivs { get; private set; }

    /// <summary>Signals pending for this thread alone: bit n-1 is signal n.</summary>
    public ulong SigPnd { get; private set; }

    /// <summary>Blocked signals: bit n-1 is signal n.</summary>
    public ulong SigBlk { get; private set; }

    public ulong SigIgn { get; private set; }

    public ulong SigCgt { get; private set; }

    /// <summary>Signals that wait for the process as a whole; bit n-1 is signal n.</summary>
    public ulong ShdPnd { get; private set; }

    /// <summary>The thread's id in each pid namespace, outermost first.</summary>
    public IReadOnlyList<int> NSpid { get; private set; } = [];

    public int Threads { get; private set; }

    /// <summary>CPUs on which it may run, ascending.</summary>
    public IReadOnlyList<int> AllowedCpus { get; private set; } = [];

    /// <summary>It has an address space: false for kernel threads and zombies.</summary>
    public bool HasAddressSpace { get; private set; }

    public bool IsZombie => State is 'Z' or 'X';

    /// <summary>Alive without an address space.</summary>
    public bool IsKernelThread => !HasAddressSpace && !IsZombie;

    /// <summary>Whether a signal waits for this thread alone.</summary>
    public bool IsPending(int signal) => (SigPnd & Signal.Bit(signal)) != 0;

    /// <summary>Whether such a signal is delivered when the thread goes on: it is not blocked.</summary>
    public bool IsDue(int signal) => (SigPnd & ~SigBlk & Signal.Bit(signal)) != 0;

    public static bool TryRead(IPlatform platform, int processId, out ProcStatus? status, out Errno error) =>
        TryReadPath(platform, $"/proc/{processId}/status", out status, out error);

    /// <summary>The same of one thread.</summary>
    public static bool TryReadThread(IPlatform platform, int processId, int threadId, out ProcStatus? status, out Errno error) =>
        TryReadPath(platform, $"/proc/{processId}/task/{threadId}/status", out status, out error);

    public static ProcStatus Parse(ReadOnlySpan<byte> text)
    {
        ProcStatus status = new();
        while (ProcText.TryTakeLine(ref text, out ReadOnlySpan<byte> line))
        {
            int colon = line.IndexOf((byte)':');
            if (colon > 0)
            {
                status.Take(line[..colon], line[(colon + 1)..].Trim(" \t"u8));
            }
        }

        return status;
    }

    private static bool TryReadPath(IPlatform platform, string path, out ProcStatus? status, out Errno error)
    {
        byte[]? text = platform.ReadProcFile(path, out error);
        status = text is null ? null : Parse(text);
        return status is not null;
    }

    private void Take(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        if (key.SequenceEqual("Name"u8))
        {
            Name = Encoding.UTF8.GetString(value);
        }
        else if (key.SequenceEqual("State"u8))
        {
            State = value.IsEmpty ? '?' : (char)value[0];
        }
        else if (key.SequenceEqual("Tgid"u8))
        {
            Tgid = Number(value);
        }
        else if (key.SequenceEqual("PPid"u8))
        {
            PPid = Number(value);
        }
        else if (key.SequenceEqual("TracerPid"u8))
        {
            TracerPid = Number(value);
        }
        else if (key.SequenceEqual("Uid"u8))
        {
            RealUid = NextUid(ref value);
            EffectiveUid = NextUid(ref value);
            SavedUid = NextUid(ref value);
            FileSystemUid = NextUid(ref value);
        }
        else if (key.SequenceEqual("Threads"u8))
        {
            Threads = Number(value);
        }
        else if (key.SequenceEqual("NSpid"u8))
        {
            NSpid = Numbers(value);
        }
        else if (key.SequenceEqual("Cpus_allowed_list"u8))
        {
            AllowedCpus = Ranges(value);
        }
        else if (key.SequenceEqual("VmSize"u8))
        {
            HasAddressSpace = true;
        }
        else if (key.SequenceEqual("SigPnd"u8))
        {
            SigPnd = Mask(value);
        }
        else if (key.SequenceEqual("SigBlk"u8))
        {
            SigBlk = Mask(value);
        }
        else if (key.SequenceEqual("ShdPnd"u8))
        {
            ShdPnd = Mask(value);
        }
        else if (key.SequenceEqual("SigIgn"u8))
        {
            SigIgn = Mask(value);
        }
        else if (key.SequenceEqual("SigCgt"u8))
        {
            SigCgt = Mask(value);
        }
        else if (key.SequenceEqual("NoNewPrivs"u8))
        {
            NoNewPrivs = Number(value) != 0;
        }
        else if (key.SequenceEqual("x86_Thread_features"u8))
        {
            HasShadowStack = value.IndexOf("shstk"u8) >= 0;
        }
        else if (key.SequenceEqual("Seccomp"u8))
        {
            Seccomp = Number(value);
        }
    }

    private static int Number(ReadOnlySpan<byte> value) => ProcText.TryParse(value, out int number) ? number : 0;

    private static ulong Mask(ReadOnlySpan<byte> value) => ProcText.TryParseHex(value, out ulong mask) ? mask : 0;

    private static uint NextUid(ref ReadOnlySpan<byte> value) =>
        ProcText.TryTakeWord(ref value, out ReadOnlySpan<byte> word) && ProcText.TryParse(word, out ulong uid) && uid <= uint.MaxValue
            ? (uint)uid
            : uint.MaxValue;

    private static List<int> Numbers(ReadOnlySpan<byte> value)
    {
        List<int> numbers = [];
        while (ProcText.TryTakeWord(ref value, out ReadOnlySpan<byte> word))
        {
            numbers.Add(Number(word));
        }

        return numbers;
    }

    /// <summary>Numbers and ranges, as in <c>0-3,8</c>; no machine has more CPUs than the bound.</summary>
    private static List<int> Ranges(ReadOnlySpan<byte> value)
    {
        const int Bound = 8192;
        List<int> numbers = [];
        foreach (Range part in value.Split((byte)','))
        {
            ReadOnlySpan<byte> range = value[part];
            int dash = range.IndexOf((byte)'-');
            if (ProcText.TryParse(dash < 0 ? range : range[..dash], out int first) && ProcText.TryParse(dash < 0 ? range : range[(dash + 1)..], out int last))
            {
                for (int number = Math.Max(0, first); number <= last && number < Bound; number++)
                {
                    numbers.Add(number);
                }
            }
        }

        return numbers;
    }
}
