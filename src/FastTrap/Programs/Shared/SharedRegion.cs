using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Programs.Shared;

/// <summary>The memory by which compiled programs give their results to the tracer: counters and rings of records, in lanes. Read by <see cref="LaneReader"/> and <see cref="CounterSnapshot"/>.</summary>
/// <remarks>
/// Made and removed on the control thread, by a stopped thread of the target. The target writes the lanes, but for the tails, which the one reader writes; any thread takes snapshots. Disposal unmaps it in the tracer once
/// no reader holds it; <see cref="Remove"/>, or a detach that was told of <see cref="Mapped"/>, unmaps it in the target, when no program can run any more.
/// </remarks>
internal sealed class SharedRegion : IDisposable
{
    /// <summary>Its name in <c>/proc/PID/maps</c>.</summary>
    public const string Name = "fasttrap.data";

    private SharedRegion(LaneLayout layout, ulong address, SharedMemory memory)
    {
        Layout = layout;
        Address = address;
        Memory = memory;
    }

    public LaneLayout Layout { get; }

    /// <summary>Where it begins in the target.</summary>
    public ulong Address { get; }

    /// <summary>The byte which programs look at first, in the target: 0 in a fork child, and while they are switched off.</summary>
    public ulong GuardAddress => Address + (ulong)Layout.GuardOffset;

    /// <summary>The same memory in the tracer.</summary>
    public SharedMemory Memory { get; }

    /// <summary>What is mapped in the target.</summary>
    public (ulong Start, ulong Length) Mapped => (Address, (ulong)Layout.TargetLength);

    /// <summary>Makes one. Programs are switched on. Control thread.</summary>
    /// <param name="process">The process.</param>
    /// <param name="task">A stopped thread of it.</param>
    /// <param name="layout">Its layout.</param>
    /// <param name="counters">What the counters of each lane begin with; empty for zeros.</param>
    /// <param name="region">The region.</param>
    /// <param name="failure">Why there is none. Nothing is left behind then, unless it says so.</param>
    public static bool TryCreate(
        ProcessHandle process, TracedTask task, LaneLayout layout, ReadOnlySpan<ulong> counters, [NotNullWhen(true)] out SharedRegion? region, out SharedMemoryFailure failure)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(counters.Length * sizeof(ulong), layout.CountersLength, nameof(counters));
        region = null;
        Errno error = process.Platform.ReadClocks(out _);
        if (error != Errno.None)
        {
            failure = new SharedMemoryFailure(SharedMemoryProblem.NoCounter, error);
            return false;
        }

        Span<byte> header = stackalloc byte[LaneLayout.NonceOffset + sizeof(ulong)];
        WriteHeader(layout, header);
        SharedMemoryRequest request = new(Name, layout.Length, IsCode: false, LaneLayout.GuardLength);
        failure = RemoteMap.Share(process, task, in request, header, out ulong address, out SharedMemory? memory);
        if (memory is null)
        {
            return false;
        }

        region = new SharedRegion(layout, address, memory);
        region.Begin(counters);
        return true;
    }

    /// <summary>A region in memory that is shared already, whose header is written here: the tracer's own, for tests and benchmarks.</summary>
    internal static SharedRegion Over(SharedMemory memory, LaneLayout layout, ulong address, ReadOnlySpan<ulong> counters)
    {
        WriteHeader(layout, memory.Slice(0, LaneLayout.NonceOffset + sizeof(ulong)));
        SharedRegion region = new(layout, address, memory);
        region.Begin(counters);
        return region;
    }

    /// <summary>Switches programs on or off: those that run go on to their end. Any thread.</summary>
    public Errno SetRecording(IPlatform platform, TargetMemory target, bool isOn)
    {
        int written = platform.WriteCode(target, GuardAddress, [isOn ? (byte)1 : (byte)0]);
        return written == 1 ? Errno.None : written < 0 ? (Errno)(-written) : Errno.EIO;
    }

    /// <summary>Unmaps it in the target. No thread may be in a program that uses it, or come to one. Control thread.</summary>
    public Errno Remove(ProcessHandle process, TracedTask task) => RemoteMap.Unmap(process, task, Address, (ulong)Layout.TargetLength);

    /// <summary>Records that found no room, in all lanes.</summary>
    public ulong CountDrops()
    {
        Memory.Hold();
        try
        {
            ulong drops = 0;
            for (int lane = 0; lane <= Layout.LaneCount; lane++)
            {
                drops += Volatile.Read(ref Word(lane, LaneLayout.DropsOffset));
            }

            return drops;
        }
        finally
        {
            Memory.Release();
        }
    }

    public void Dispose() => Memory.Dispose();

    /// <summary>The lane of a thread which is stopped, found or claimed as its own code would; -1 if there is none for it alone. The memory is held.</summary>
    internal int FindLane(ulong threadPointer)
    {
        int lane = Layout.FirstLaneOf(threadPointer);
        for (int i = 0; i < Layout.LaneCount && threadPointer != 0; i++, lane = (lane + 1) % Layout.LaneCount)
        {
            ulong owner = Interlocked.CompareExchange(ref Word(lane, LaneLayout.OwnerOffset), threadPointer, 0);
            if (owner == 0 || owner == threadPointer)
            {
                return lane;
            }
        }

        return -1;
    }

    /// <summary>Looks at the counters of all lanes in which there may be something. Memory that is looked at has to be there, so the others are left alone.</summary>
    internal void ForEachUsed(Action<Span<ulong>> look)
    {
        Memory.Hold();
        try
        {
            for (int lane = 0; lane <= Layout.LaneCount; lane++)
            {
                if (lane == Layout.LaneCount || Volatile.Read(ref Word(lane, LaneLayout.OwnerOffset)) != 0)
                {
                    look(Counters(lane));
                }
            }
        }
        finally
        {
            Memory.Release();
        }
    }

    /// <summary>The counters of a lane. The memory is held.</summary>
    internal unsafe Span<ulong> Counters(int lane) =>
        new(Memory.Start + Layout.LaneOffset(lane) + LaneLayout.CountersStart, Layout.CountersLength / sizeof(ulong));

    /// <summary>A word of a lane. The memory is held.</summary>
    internal unsafe ref ulong Word(int lane, long offset) => ref *(ulong*)(Memory.Start + Layout.LaneOffset(lane) + offset);

    private static void WriteHeader(LaneLayout layout, Span<byte> header)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(header[LaneLayout.MagicOffset..], LaneLayout.Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(header[LaneLayout.VersionOffset..], LaneLayout.Version);
        BinaryPrimitives.WriteUInt32LittleEndian(header[LaneLayout.LaneCountOffset..], (uint)layout.LaneCount);
        BinaryPrimitives.WriteUInt64LittleEndian(header[LaneLayout.LaneStrideOffset..], (ulong)layout.LaneStride);
        BinaryPrimitives.WriteUInt64LittleEndian(header[LaneLayout.FirstLaneOffset..], LaneLayout.RegionHeaderLength);
        BinaryPrimitives.WriteUInt32LittleEndian(header[LaneLayout.CountersStartOffset..], LaneLayout.CountersStart);
        BinaryPrimitives.WriteUInt32LittleEndian(header[LaneLayout.CountersLengthOffset..], (uint)layout.CountersLength);
        BinaryPrimitives.WriteUInt64LittleEndian(header[LaneLayout.RingStartOffset..], (ulong)layout.RingStart);
        BinaryPrimitives.WriteUInt64LittleEndian(header[LaneLayout.RingLengthOffset..], (ulong)layout.RingLength);
        BinaryPrimitives.WriteUInt64LittleEndian(header[LaneLayout.GuardOffsetOffset..], (ulong)layout.GuardOffset);
        RandomNumberGenerator.Fill(header.Slice(LaneLayout.NonceOffset, sizeof(ulong)));
    }

    /// <summary>Before any program runs.</summary>
    private void Begin(ReadOnlySpan<ulong> counters)
    {
        if (counters.IndexOfAnyExcept(0UL) < 0)
        {
            return;
        }

        for (int lane = 0; lane <= Layout.LaneCount; lane++)
        {
            counters.CopyTo(MemoryMarshal.Cast<byte, ulong>(Memory.Slice(Layout.LaneOffset(lane) + LaneLayout.CountersStart, Layout.CountersLength)));
        }
    }
}
