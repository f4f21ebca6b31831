namespace FastTrap.Native;

/// <summary>A status word of wait4 (<c>bits/waitstatus.h</c>), with ptrace's event in bits 16 to 23.</summary>
/// <param name="Value">The word as the kernel gives it.</param>
internal readonly record struct WaitStatus(int Value)
{
    public bool Exited => (Value & 0x7f) == 0;

    public int ExitCode => (Value >> 8) & 0xff;

    public bool Signaled => !Exited && !Stopped;

    public int TerminatingSignal => Value & 0x7f;

    public bool CoreDumped => Signaled && (Value & 0x80) != 0;

    public bool Stopped => (Value & 0xff) == 0x7f;

    /// <summary>The signal of a stop, without TRACESYSGOOD's 0x80.</summary>
    public int StopSignal => (Value >> 8) & 0x7f;

    /// <summary>A system-call stop (with PTRACE_O_TRACESYSGOOD).</summary>
    public bool IsSystemCallStop => Stopped && ((Value >> 8) & 0xff) == (Signal.SIGTRAP | 0x80);

    public PtraceEvent Event => Stopped ? (PtraceEvent)((Value >> 16) & 0xff) : PtraceEvent.None;
}
