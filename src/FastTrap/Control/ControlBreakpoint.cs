using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>
/// A breakpoint of the library's own (the entry point, later the run-time linker and main); never a probe.
/// </summary>
/// <remarks>Source: dt_proc.c, dt_bkpt_t. Control thread only.</remarks>
internal sealed class ControlBreakpoint(TargetMemory memory, ulong address, byte[] original, Action<TracedTask> onHit) : IDisposable
{
    public ulong Address { get; } = address;

    public byte[] Original { get; } = original;

    /// <summary>Called with the thread stopped at <see cref="Address"/>, the breakpoint removed. It may hold the thread.</summary>
    public Action<TracedTask> OnHit { get; } = onHit;

    /// <summary>Restores the text, through the memory that was opened to write the trap: a tracer may have run out of descriptors since.</summary>
    public Errno Remove(IPlatform platform)
    {
        int written = platform.WriteCode(memory, Address, Original);
        if (written != Original.Length)
        {
            // There is no second chance: a trap that stays kills the program.
            written = platform.WriteCode(memory, Address, Original);
        }

        Dispose();
        return written == Original.Length ? Errno.None : written < 0 ? (Errno)(-written) : Errno.EIO;
    }

    public void Dispose() => memory.Dispose();
}
