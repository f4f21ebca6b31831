using System.Runtime.InteropServices;
using System.Text;

namespace FastTrap.Native;

/// <summary>
/// <see cref="IPlatform"/> on the kernel this program runs on. Stateless but for the wake signal, which is claimed once; every method
/// may be called on any thread, except for the ptrace requests, whose rule is the kernel's.
/// </summary>
internal sealed partial class LinuxPlatform : IPlatform
{
    [ThreadStatic]
    private static int t_threadId;

    private static readonly SystemCallNumbers s_numbers = SystemCallNumbers.Of(RuntimeInformation.ProcessArchitecture);

    private LinuxPlatform()
    {
    }

    /// <summary>The one instance.</summary>
    public static LinuxPlatform Instance { get; } = new();

    public Architecture Architecture => RuntimeInformation.ProcessArchitecture;

    public int CurrentThreadId
    {
        get
        {
            // A thread's id never changes, and managed code never runs in a forked child.
            int id = t_threadId;
            return id != 0 ? id : t_threadId = (int)SystemCall(s_numbers.GetTid);
        }
    }

    public int CurrentProcessId => Environment.ProcessId;

    private static nint SystemCall(int number, nint a0 = 0, nint a1 = 0, nint a2 = 0, nint a3 = 0, nint a4 = 0) =>
        LibC.syscall(number, a0, a1, a2, a3, a4, 0);

    private static Errno Check(nint result) => result == -1 ? LibC.LastError : Errno.None;

    /// <summary>The bytes of a path for the kernel, NUL-terminated; null when the path itself holds a NUL, which names no file.</summary>
    private static byte[]? ToNative(string path)
    {
        if (path.Contains('\0', StringComparison.Ordinal))
        {
            return null;
        }

        byte[] bytes = new byte[Encoding.UTF8.GetByteCount(path) + 1];
        Encoding.UTF8.GetBytes(path, bytes);
        return bytes;
    }
}
