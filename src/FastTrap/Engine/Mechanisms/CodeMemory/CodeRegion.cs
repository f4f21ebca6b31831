using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Memory for generated code near a module: executable in the target and not writable there, writable in the tracer and not executable here.</summary>
/// <remarks>
/// Made and removed on the control thread, by a stopped thread of the target; written by its owner. What is written is seen by the target at once; nothing may be written over that a thread may be in, or (arm64) has been in. Removal and disposal as those of memory for data.
/// </remarks>
internal sealed class CodeRegion : IDisposable
{
    /// <summary>Its name in <c>/proc/PID/maps</c>.</summary>
    public const string Name = "fasttrap.code";

    /// <summary>The first word: "FASTTRPC". A random word and the length follow.</summary>
    public const ulong Magic = 0x4350_5254_5453_4146;

    /// <summary>Bytes at the beginning which are no code.</summary>
    public const int HeaderLength = 64;

    /// <summary>Whole pages of any size.</summary>
    public const int Alignment = 0x10000;

    private CodeRegion(ulong address, SharedMemory memory)
    {
        Address = address;
        Memory = memory;
    }

    /// <summary>Where it begins in the target.</summary>
    public ulong Address { get; }

    public int Length => (int)Memory.Length;

    public SharedMemory Memory { get; }

    /// <summary>What is mapped in the target.</summary>
    public (ulong Start, ulong Length) Mapped => (Address, (ulong)Memory.Length);

    /// <summary>Makes one. Control thread.</summary>
    /// <param name="process">The process.</param>
    /// <param name="task">A stopped thread of it.</param>
    /// <param name="near">The middle of what it should be near, a module.</param>
    /// <param name="reach">How far from there it may end, half of the module's length off what a branch reaches.</param>
    /// <param name="length">Bytes, a multiple of <see cref="Alignment"/>.</param>
    /// <param name="region">The region.</param>
    /// <param name="failure">Why there is none. Nothing is left behind then, unless it says so.</param>
    public static bool TryCreate(
        ProcessHandle process, TracedTask task, ulong near, ulong reach, int length, [NotNullWhen(true)] out CodeRegion? region, out SharedMemoryFailure failure)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        ArgumentOutOfRangeException.ThrowIfNotEqual(length % Alignment, 0, nameof(length));
        ArgumentOutOfRangeException.ThrowIfZero(near);
        Span<byte> header = stackalloc byte[HeaderLength];
        header.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(header, Magic);
        RandomNumberGenerator.Fill(header.Slice(sizeof(ulong), sizeof(ulong)));
        BinaryPrimitives.WriteUInt64LittleEndian(header[(2 * sizeof(ulong))..], (ulong)length);
        SharedMemoryRequest request = new(Name, length, IsCode: true, 0, near, reach);
        failure = RemoteMap.Share(process, task, in request, header, out ulong address, out SharedMemory? memory);
        region = memory is null ? null : new CodeRegion(address, memory);
        return region is not null;
    }

    /// <summary>Whether a target address is in it.</summary>
    public bool Contains(ulong address) => address - Address < (ulong)Memory.Length;

    /// <summary>Writes code to a target address of the region behind its header.</summary>
    /// <exception cref="ArgumentOutOfRangeException">It is not all within.</exception>
    public void Write(ulong address, ReadOnlySpan<byte> code)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(address, Address + HeaderLength);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(address - Address, (ulong)Memory.Length);
        code.CopyTo(Memory.Slice((long)(address - Address), code.Length));
    }

    /// <summary>Unmaps it in the target. No thread may be in it, or come to it. Control thread.</summary>
    public Errno Remove(ProcessHandle process, TracedTask task) => RemoteMap.Unmap(process, task, Address, (ulong)Memory.Length);

    public void Dispose() => Memory.Dispose();
}
