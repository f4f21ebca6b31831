using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>The C library: signals (<c>signal.h</c>).</summary>
internal static unsafe partial class LibC
{
    public const int SIG_UNBLOCK = 1;

    [LibraryImport(Library, SetLastError = true)]
    public static partial int sigaction(int signal, SignalAction* action, SignalAction* previous);

    /// <summary>Returns an error number; does not set errno.</summary>
    [LibraryImport(Library)]
    public static partial int pthread_sigmask(int how, SignalSet* set, SignalSet* previous);
}

/// <summary>sigset_t as the C library has it: 1024 bits, of which the kernel knows the first 64.</summary>
[InlineArray(16)]
internal struct SignalSet
{
    private ulong _first;
}

/// <summary>struct sigaction as the C library has it (<c>bits/sigaction.h</c>), not as the kernel has it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SignalAction
{
    public nint sa_handler;
    public SignalSet sa_mask;
    public int sa_flags;
    public nint sa_restorer;
}
