using System.Runtime.InteropServices;

namespace FastTrap.Tests.TestKit;

/// <summary>
/// The few C functions with which the tests start and end programs. They are the tests' own, so that the library's platform layer is never its own oracle.
/// </summary>
internal static unsafe partial class Posix
{
    public const int SIGKILL = 9;
    public const int SIGINT = 2;
    public const int SIGTERM = 15;
    public const int SIGCONT = 18;
    public const int SIGSTOP = 19;
    public const int ESRCH = 3;
    public const int ECHILD = 10;
    public const short POLLIN = 1;
    public const int WNOHANG = 1;

    private const int EINTR = 4;
    private const int O_CLOEXEC = 0x80000;
    private const int O_RDWR = 2;
    private const int O_TMPFILE = 0x410000;
    private const int F_DUPFD_CLOEXEC = 1030;
    private const int AF_UNIX = 1;
    private const int SOCK_STREAM_CLOEXEC = 1 | O_CLOEXEC;
    private const nint SYS_pidfd_send_signal = 424;
    private const nint SYS_pidfd_open = 434;
    private const nint SYS_perf_event_open = 298;

    /// <summary>Descriptors are moved up to here, so that none stands where a child's 0 to 3 will be.</summary>
    private const int FirstDescriptor = 20;

    [StructLayout(LayoutKind.Sequential)]
    internal struct PollFd
    {
        public int Descriptor;
        public short Events;
        public short ReturnedEvents;
    }

    /// <summary>A path without links; the path itself if there is no such file.</summary>
    public static string ResolvePath(string path)
    {
        byte* result = stackalloc byte[4096];
        fixed (byte* bytes = Utf8(path))
        {
            return realpath(bytes, result) is null ? path : Marshal.PtrToStringUTF8((nint)result)!;
        }
    }

    /// <summary>Makes a pipe: what is written into the second is read from the first.</summary>
    public static (int Read, int Write) MakePipe()
    {
        int* pair = stackalloc int[2];
        Check(pipe2(pair, O_CLOEXEC), nameof(pipe2));
        return (MoveUp(pair[0]), MoveUp(pair[1]));
    }

    /// <summary>Makes two connected sockets.</summary>
    public static (int Ours, int Theirs) MakeSocketPair()
    {
        int* pair = stackalloc int[2];
        Check(socketpair(AF_UNIX, SOCK_STREAM_CLOEXEC, 0, pair), nameof(socketpair));
        return (MoveUp(pair[0]), MoveUp(pair[1]));
    }

    /// <summary>Opens a file without a name in the directory of temporary files.</summary>
    public static int OpenNamelessFile()
    {
        fixed (byte* directory = Utf8(Path.GetTempPath()))
        {
            return MoveUp(Check(open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 384), nameof(open)));
        }
    }

    public static void Close(int descriptor)
    {
        if (descriptor >= 0)
        {
            _ = close(descriptor);
        }
    }

    /// <summary>Waits until the descriptor can be read, at most so many milliseconds; false when time is over.</summary>
    public static bool WaitReadable(int descriptor, int milliseconds)
    {
        PollFd wait = new() { Descriptor = descriptor, Events = POLLIN };
        return Poll(new Span<PollFd>(ref wait), milliseconds) > 0;
    }

    public static int Poll(Span<PollFd> descriptors, int milliseconds)
    {
        long end = Environment.TickCount64 + milliseconds;
        fixed (PollFd* pointer = descriptors)
        {
            while (true)
            {
                int result = poll(pointer, (nuint)descriptors.Length, (int)Math.Max(0, end - Environment.TickCount64));
                if (result >= 0 || Marshal.GetLastPInvokeError() != EINTR)
                {
                    return Check(result, nameof(poll));
                }
            }
        }
    }

    /// <summary>Reads what there is; 0 at the end.</summary>
    public static int Read(int descriptor, Span<byte> buffer)
    {
        fixed (byte* pointer = buffer)
        {
            while (true)
            {
                nint result = read(descriptor, pointer, (nuint)buffer.Length);
                if (result >= 0 || Marshal.GetLastPInvokeError() != EINTR)
                {
                    return Check((int)result, nameof(read));
                }
            }
        }
    }

    /// <summary>Reads at a position, which does not move the descriptor's own.</summary>
    public static int ReadAt(int descriptor, Span<byte> buffer, long position)
    {
        fixed (byte* pointer = buffer)
        {
            return Check((int)pread(descriptor, pointer, (nuint)buffer.Length, (nint)position), nameof(pread));
        }
    }

    /// <summary>Writes everything; false when the other end is closed.</summary>
    public static bool Write(int descriptor, ReadOnlySpan<byte> data)
    {
        while (!data.IsEmpty)
        {
            nint result;
            fixed (byte* pointer = data)
            {
                result = write(descriptor, pointer, (nuint)data.Length);
            }

            if (result < 0)
            {
                if (Marshal.GetLastPInvokeError() == EINTR)
                {
                    continue;
                }

                return false;
            }

            data = data[(int)result..];
        }

        return true;
    }

    /// <summary>Reaps a child; its status as <c>wait</c> gives it, or -1 if it still runs and <paramref name="flags"/> forbid waiting.</summary>
    public static int WaitForChild(int processId, int flags = 0)
    {
        int status;
        while (true)
        {
            int result = waitpid(processId, &status, flags);
            if (result == processId)
            {
                return status;
            }

            if (result == 0)
            {
                return -1;
            }

            if (Marshal.GetLastPInvokeError() != EINTR)
            {
                Check(result, nameof(waitpid));
            }
        }
    }

    /// <summary>A descriptor of a process, or -1 if there is none any more.</summary>
    public static int OpenProcess(int processId)
    {
        int result = (int)syscall(SYS_pidfd_open, processId, 0, 0, 0, 0);
        return result < 0 && Marshal.GetLastPInvokeError() == ESRCH ? -1 : MoveUp(Check(result, "pidfd_open"));
    }

    /// <summary>Sends a signal; false if the process has ended.</summary>
    public static bool SendSignal(int processDescriptor, int signal)
    {
        long result = syscall(SYS_pidfd_send_signal, processDescriptor, signal, 0, 0, 0);
        return result == 0 || (Marshal.GetLastPInvokeError() == ESRCH ? false : Check((int)result, "pidfd_send_signal") == 0);
    }

    public static void ChangeOwner(string path, uint user)
    {
        fixed (byte* name = Utf8(path))
        {
            Check(chown(name, user, user), nameof(chown));
        }
    }

    public static int OpenPerfEvent(void* attributes, int threadId, int cpu) =>
        (int)syscall(SYS_perf_event_open, (nint)attributes, threadId, cpu, -1, 8);

    /// <summary>A condition on the fields of a tracepoint's event (PERF_EVENT_IOC_SET_FILTER of linux/perf_event.h).</summary>
    public static void SetEventFilter(int descriptor, string filter)
    {
        fixed (byte* text = Utf8(filter))
        {
            Check(ioctl(descriptor, 0x40082406, (nint)text), nameof(ioctl));
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ioctl(int descriptor, nuint request, nint argument);

    [LibraryImport("libc")]
    private static partial byte* realpath(byte* path, byte* resolved);

    [LibraryImport("libc")]
    public static partial uint geteuid();

    /// <summary>Starts a program as a child of this process with the given descriptors as 0, 1, 2 and (if not negative) 3.</summary>
    public static int Spawn(
        string path, IReadOnlyList<string> arguments, IEnumerable<string> environment, string? directory, int input, int output, int error, int extra)
    {
        // Larger than glibc's types (80 and 336 bytes).
        byte* actions = stackalloc byte[512];
        byte* attributes = stackalloc byte[1024];
        byte* signals = stackalloc byte[128];
        Require(posix_spawn_file_actions_init(actions), nameof(posix_spawn_file_actions_init));
        Require(posix_spawnattr_init(attributes), nameof(posix_spawnattr_init));
        using NativeStrings argv = new([path, .. arguments]);
        using NativeStrings envp = new(environment);
        try
        {
            int[] descriptors = [input, output, error, extra];
            for (int i = 0; i < descriptors.Length; i++)
            {
                if (descriptors[i] >= 0)
                {
                    Require(posix_spawn_file_actions_adddup2(actions, descriptors[i], i), nameof(posix_spawn_file_actions_adddup2));
                }
            }

            if (directory is not null)
            {
                fixed (byte* name = Utf8(directory))
                {
                    Require(posix_spawn_file_actions_addchdir_np(actions, name), nameof(posix_spawn_file_actions_addchdir_np));
                }
            }

            // The runtime ignores SIGPIPE, and a child would inherit that: all signals are set to their default and none is blocked.
            new Span<byte>(signals, 128).Clear();
            Require(posix_spawnattr_setsigmask(attributes, signals), nameof(posix_spawnattr_setsigmask));
            new Span<byte>(signals, 8).Fill(0xff);
            Require(posix_spawnattr_setsigdefault(attributes, signals), nameof(posix_spawnattr_setsigdefault));
            const short SetProcessGroup = 2, SetSignalDefaults = 4, SetSignalMask = 8;
            Require(posix_spawnattr_setflags(attributes, SetProcessGroup | SetSignalDefaults | SetSignalMask), nameof(posix_spawnattr_setflags));
            int processId;
            fixed (byte* name = Utf8(path))
            {
                Require(posix_spawn(&processId, name, actions, attributes, argv.Pointer, envp.Pointer), $"posix_spawn of {path}");
            }

            return processId;
        }
        finally
        {
            _ = posix_spawn_file_actions_destroy(actions);
            _ = posix_spawnattr_destroy(attributes);
        }
    }

    private static byte[] Utf8(string text) => [.. System.Text.Encoding.UTF8.GetBytes(text), 0];

    private static int MoveUp(int descriptor)
    {
        int moved = Check(fcntl(descriptor, F_DUPFD_CLOEXEC, FirstDescriptor), nameof(fcntl));
        _ = close(descriptor);
        return moved;
    }

    private static int Check(int result, string name)
    {
        if (result >= 0)
        {
            return result;
        }

        int error = Marshal.GetLastPInvokeError();
        throw new IOException($"{name}: {Marshal.GetPInvokeErrorMessage(error)} (errno {error})", error);
    }

    private static void Require(int error, string name)
    {
        if (error != 0)
        {
            throw new IOException($"{name}: {Marshal.GetPInvokeErrorMessage(error)} (errno {error})", error);
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int pipe2(int* pair, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int socketpair(int domain, int type, int protocol, int* pair);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int open(byte* path, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int close(int descriptor);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fcntl(int descriptor, int command, nint argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int poll(PollFd* descriptors, nuint count, int milliseconds);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(int descriptor, byte* buffer, nuint length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint pread(int descriptor, byte* buffer, nuint length, nint offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint write(int descriptor, byte* buffer, nuint length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int waitpid(int processId, int* status, int options);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int chown(byte* path, uint user, uint group);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint syscall(nint number, nint a, nint b, nint c, nint d, nint e);

    [LibraryImport("libc")]
    private static partial int posix_spawn(int* processId, byte* path, byte* actions, byte* attributes, byte** arguments, byte** environment);

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_init(byte* actions);

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_destroy(byte* actions);

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_adddup2(byte* actions, int descriptor, int number);

    [LibraryImport("libc")]
    private static partial int posix_spawn_file_actions_addchdir_np(byte* actions, byte* path);

    [LibraryImport("libc")]
    private static partial int posix_spawnattr_init(byte* attributes);

    [LibraryImport("libc")]
    private static partial int posix_spawnattr_destroy(byte* attributes);

    [LibraryImport("libc")]
    private static partial int posix_spawnattr_setsigmask(byte* attributes, byte* signals);

    [LibraryImport("libc")]
    private static partial int posix_spawnattr_setsigdefault(byte* attributes, byte* signals);

    [LibraryImport("libc")]
    private static partial int posix_spawnattr_setflags(byte* attributes, short flags);
}
