using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>
/// The C library: processes and ptrace (<c>sys/ptrace.h</c>, <c>sys/wait.h</c>, <c>sys/uio.h</c>, <c>unistd.h</c>). Called by this layer
/// only.
/// </summary>
internal static unsafe partial class LibC
{
    internal const string Library = "libc";

    // sys/wait.h, linux/wait.h
    public const int WNOHANG = 1;
    public const int WEXITED = 4;
    public const int WNOWAIT = 0x01000000;
    public const int P_ALL = 0;
    public const int P_PID = 1;
    public const int CLD_TRAPPED = 4;
    public const int __WNOTHREAD = 0x20000000;
    public const int __WALL = 0x40000000;

    /// <summary>Most pieces of one process_vm_readv (<c>linux/uio.h</c>, UIO_MAXIOV).</summary>
    public const int IOV_MAX = 1024;

    /// <summary>kcmp of address spaces (<c>linux/kcmp.h</c>).</summary>
    public const int KCMP_VM = 1;

    // sched.h, linux/sched.h
    public const int SCHED_OTHER = 0;
    public const ulong SCHED_FLAG_RESET_ON_FORK = 1;

    /// <summary>The error number of the last call made through this class by this thread.</summary>
    public static Errno LastError => (Errno)Marshal.GetLastPInvokeError();

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint ptrace(nint request, int pid, nint addr, nint data);

    /// <summary>ptrace without its error number, whose fetching costs as much as the rest of the way into the kernel: call <see cref="ptrace"/> again after -1.</summary>
    [LibraryImport(Library, EntryPoint = "ptrace")]
    public static partial nint ptrace_quick(nint request, int pid, nint addr, nint data);

    /// <summary>wait4 without its error number: call <see cref="wait4"/> again after -1.</summary>
    [LibraryImport(Library, EntryPoint = "wait4")]
    public static partial int wait4_quick(int pid, int* status, int options, void* usage);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int wait4(int pid, int* status, int options, void* usage);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int waitid(int kind, int id, SignalInfo* info, int options);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint process_vm_readv(
        int pid, IoVector* local, nuint localCount, IoVector* remote, nuint remoteCount, nuint flags);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint process_vm_writev(
        int pid, IoVector* local, nuint localCount, IoVector* remote, nuint remoteCount, nuint flags);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int kill(int pid, int signal);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int sched_setaffinity(int pid, nuint length, byte* mask);

    /// <summary>nanosleep for less than a second. A signal ends it early.</summary>
    public static void SleepNanoseconds(int nanoseconds)
    {
        TimeSpec time = new() { tv_nsec = nanoseconds };
        _ = nanosleep(&time, null);
    }

    [LibraryImport(Library)]
    private static partial int nanosleep(TimeSpec* time, TimeSpec* rest);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint syscall(nint number, nint a0, nint a1, nint a2, nint a3, nint a4, nint a5);
}

/// <summary>struct timespec of systems of 64 bits (<c>bits/types/struct_timespec.h</c>).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TimeSpec
{
    public long tv_sec;
    public long tv_nsec;
}

/// <summary>struct sched_attr, its first version (<c>linux/sched/types.h</c>).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SchedulingAttributes
{
    public uint size;
    public uint sched_policy;
    public ulong sched_flags;
    public int sched_nice;
    public uint sched_priority;
    public ulong sched_runtime;
    public ulong sched_deadline;
    public ulong sched_period;
}

/// <summary>struct iovec (<c>bits/types/struct_iovec.h</c>): the address is of the target where the vector is a remote one.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct IoVector
{
    public ulong iov_base;
    public nuint iov_len;
}
