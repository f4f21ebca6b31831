using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using FastTrap.Native;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>
/// <see cref="IPlatform"/> on the arm64 kernel of a guest: each method is the system calls of <see cref="LinuxPlatform"/>, made by the proxy's thread that belongs to the
/// calling thread. Ids of processes and threads, the tracer's own too, are the guest's.
/// </summary>
/// <remarks>Thread-safe: each thread has its own channel. Structs and numbers are arm64's (<c>asm-generic/unistd.h</c>).</remarks>
internal sealed partial class GuestPlatform(GuestLink link) : IPlatform
{
    private const int AT_FDCWD = -100;

    /// <summary>Where in the arena data stands, behind the structs and paths.</summary>
    private const int DataOffset = 16 * 1024;

    private int _processId;
    private volatile bool _isForgotten;

    public Architecture Architecture => Architecture.Arm64;

    public int CurrentThreadId => link.OfThread.ThreadId;

    public int CurrentProcessId
    {
        get
        {
            const int SYS_getpid = 172;
            return _processId != 0 ? _processId : _processId = (int)link.OfThread.Begin().Call(SYS_getpid).Exchange().TakeResult();
        }
    }

    /// <summary>The guest is about to go: handles that are finalised later have nothing to close.</summary>
    public void Forget() => _isForgotten = true;

    private static Errno Check(long result) => result < 0 ? (Errno)(-result) : Errno.None;

    private static byte[] Text(string text) => [.. Encoding.UTF8.GetBytes(text), 0];

    private static byte[] Words(params ReadOnlySpan<ulong> words)
    {
        byte[] bytes = new byte[words.Length * sizeof(ulong)];
        for (int i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i * sizeof(ulong)), words[i]);
        }

        return bytes;
    }

    private long Call(int number, params ReadOnlySpan<ulong> arguments) => link.OfThread.Begin().Call(number, arguments).Exchange().TakeResult();
}
