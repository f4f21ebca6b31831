namespace FastTrap.Native;

/// <summary>PTRACE_O_* (<c>linux/ptrace.h</c>).</summary>
[Flags]
internal enum PtraceOptions : uint
{
    None = 0,
    TraceSysGood = 0x1,
    TraceFork = 0x2,
    TraceVfork = 0x4,
    TraceClone = 0x8,
    TraceExec = 0x10,
    TraceVforkDone = 0x20,
    TraceExit = 0x40,
    TraceSeccomp = 0x80,
    ExitKill = 0x100000,
}

/// <summary>PTRACE_EVENT_* (<c>linux/ptrace.h</c>).</summary>
internal enum PtraceEvent
{
    None = 0,
    Fork = 1,
    Vfork = 2,
    Clone = 3,
    Exec = 4,
    VforkDone = 5,
    Exit = 6,
    Seccomp = 7,
    Stop = 128,
}
