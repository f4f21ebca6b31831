using System.Runtime.InteropServices;
using FastTrap.Programs.Shared;

namespace FastTrap.Programs.Compilation;

/// <summary>What generated code takes for granted of the process in which it will run.</summary>
internal sealed record ProgramTarget
{
    public required Architecture Architecture { get; init; }

    public required LaneLayout Layout { get; init; }

    /// <summary>Where the shared region begins in the target.</summary>
    public required ulong RegionAddress { get; init; }

    /// <summary>Where the program's counters begin in a lane.</summary>
    public int CountersOffset { get; init; } = LaneLayout.CountersStart;

    /// <summary>As the tracer sees it.</summary>
    public int ProcessId { get; init; }

    /// <summary>As the process itself does, in its PID namespace.</summary>
    public int OwnProcessId { get; init; }

    /// <summary>Whether programs may execute RDFSBASE (x86-64); otherwise the thread pointer is read where the C library keeps it, at fs:0.</summary>
    public bool HasReadFsBase { get; init; }

    /// <summary>Whether fs:0 holds the thread pointer, as the ABI has it (x86-64). It is read there then, at a tenth of what RDFSBASE takes, which looks only when a thread claims a lane.</summary>
    public bool HasThreadPointerWord { get; init; }

    /// <summary>Where the C library keeps the thread's id, from the thread pointer; null: not known.</summary>
    public int? ThreadIdOffset { get; init; }

    /// <summary>Whether the processor has RDPID (x86-64).</summary>
    public bool HasReadProcessorId { get; init; }

    /// <summary>Whether the processor has SVE (arm64), so that vector registers are longer than 16 bytes.</summary>
    public bool HasScalableVectors { get; init; }

    /// <summary>Whether the process may make system calls of our choice: false under a seccomp filter.</summary>
    public bool AllowsSystemCalls { get; init; }

    /// <summary>
    /// A word that a tracer holds for as long as it is there (<see cref="Native.HeldWord"/>): then memory is read as it is, and the tracer leads threads on whose loads fault (x86-64). Where nobody holds it the program does nothing. Null: memory is read by system calls.
    /// </summary>
    public ulong? TracerWord { get; init; }

    /// <summary>Whether the code is to be tried outside of a target: whatever address it computes, it reads its own frame there.</summary>
    public bool IsTrial { get; init; }

    /// <summary>A byte which is 0 where nothing may be recorded: in a fork child.</summary>
    public ulong GuardAddress => RegionAddress + (ulong)Layout.GuardOffset;

    public ulong LanesAddress => RegionAddress + LaneLayout.RegionHeaderLength;

    /// <summary>The lane of all threads which found no own one.</summary>
    public ulong CommonLaneAddress => RegionAddress + (ulong)Layout.LaneOffset(Layout.LaneCount);

    /// <summary>How ticks of the processor become nanoseconds; null: programs which compute with the time are not compiled.</summary>
    public TickScale? Ticks { get; init; }
}

/// <summary>Nanoseconds = <paramref name="BaseNs"/> + ((ticks - <paramref name="BaseTicks"/>) * <paramref name="Multiplier"/> / 2^32).</summary>
internal readonly record struct TickScale(ulong BaseTicks, ulong Multiplier, long BaseNs)
{
    public long ToNs(ulong ticks) => BaseNs + (long)(ulong)(((UInt128)(ticks - BaseTicks) * Multiplier) >> 32);
}
