namespace FastTrap.Native;

/// <summary>PTRACE_* requests and register set types (<c>linux/ptrace.h</c>, <c>linux/elf.h</c>).</summary>
internal static class PtraceRequest
{
    public const int PTRACE_POKEUSER = 6;
    public const int PTRACE_CONT = 7;
    public const int PTRACE_SINGLESTEP = 9;
    public const int PTRACE_DETACH = 17;
    public const int PTRACE_SYSCALL = 24;
    public const int PTRACE_GETEVENTMSG = 0x4201;
    public const int PTRACE_GETSIGINFO = 0x4202;
    public const int PTRACE_SETSIGINFO = 0x4203;
    public const int PTRACE_GETREGSET = 0x4204;
    public const int PTRACE_SETREGSET = 0x4205;
    public const int PTRACE_SEIZE = 0x4206;
    public const int PTRACE_INTERRUPT = 0x4207;
    public const int PTRACE_LISTEN = 0x4208;
    public const int PTRACE_GETSIGMASK = 0x420a;
    public const int PTRACE_SETSIGMASK = 0x420b;

    public const int NT_PRSTATUS = 1;

    /// <summary>The number of the system call an arm64 thread is entering; x86-64 has it in orig_rax.</summary>
    public const int NT_ARM_SYSTEM_CALL = 0x404;

    /// <summary>The vector registers with their full length, if the processor has SVE.</summary>
    public const int NT_ARM_SVE = 0x405;
}
