using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>siginfo_t (<c>asm-generic/siginfo.h</c>): 128 bytes on x86-64 and arm64; kept whole, so that what is put back is what was taken.</summary>
[StructLayout(LayoutKind.Explicit, Size = 128)]
internal unsafe struct SignalInfo
{
    [FieldOffset(0)]
    public int si_signo;

    [FieldOffset(4)]
    public int si_errno;

    [FieldOffset(8)]
    public int si_code;

    /// <summary>The sender's process id, for signals sent by a process.</summary>
    [FieldOffset(16)]
    public int si_pid;

    [FieldOffset(20)]
    public uint si_uid;

    /// <summary>Of waitid: how a thread has stopped or ended.</summary>
    [FieldOffset(24)]
    public int si_status;

    /// <summary>The address of a fault, or of the instruction (SIGILL, SIGFPE, SIGTRAP).</summary>
    [FieldOffset(16)]
    public ulong si_addr;

    /// <summary>si_code of an int3 on x86-64, and of any fault the kernel does not detail.</summary>
    public const int SI_KERNEL = 0x80;

    /// <summary>In si_errno of a SIGTRAP: a tracer leads the thread on, and the trap was at si_addr.</summary>
    public const int LedMark = 0x4650_5246;

    /// <summary>si_code of a SIGTRAP by brk on arm64.</summary>
    public const int TRAP_BRKPT = 1;

    /// <summary>Whether the signal was raised by the instruction at the program counter, not sent to the thread.</summary>
    public readonly bool IsSynchronous =>
        si_code > 0 && si_signo is Signal.SIGSEGV or Signal.SIGBUS or Signal.SIGILL or Signal.SIGFPE or Signal.SIGTRAP;
}
