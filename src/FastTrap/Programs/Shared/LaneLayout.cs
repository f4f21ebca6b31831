using System.Numerics;
using FastTrap.Native;

namespace FastTrap.Programs.Shared;

/// <summary>
/// Where things lie in the memory that compiled programs share with the tracer: a header, the lanes one behind the other, and behind them the guard, which is not shared. Immutable.
/// </summary>
/// <remarks>
/// <para>
/// A lane belongs to one thread, found by its thread pointer (x86-64: the base of fs; arm64: TPIDR_EL0): <c>index = (pointer * HashMultiplier) >> HashShift</c>, and from there the next ones, around
/// the end, until one that has the pointer for its owner, or one without an owner (0), which is claimed by <c>lock cmpxchg</c>. A thread whose pointer is that of one which has ended continues its lane. When none is free, and where the pointer is 0,
/// the common lane serves, number <see cref="LaneCount"/>, by locked instructions.
/// </para>
/// <para>
/// A lane of its own needs no lock: nobody else writes there, but signal handlers of the same thread, so that one instruction is atomic and several are not: what takes several is a <c>cmpxchg</c> in a loop.
/// </para>
/// <para>
/// A record is a multiple of 8 bytes and does not wrap: where it does not fit in front of the ring's end, a filler takes the rest. Both are reserved at once: <c>head + filler + record - tail &lt;= RingLength</c>, else
/// the drops are counted and nothing is reserved. The order is: reserve (<c>cmpxchg [head]</c>), write the size with <see cref="BusyFlag"/> (of a filler, its size with <see cref="FillerFlag"/>), read the time, write the fields, write the size without
/// the flag: that commits (arm64: <c>stlr</c>; the tail is read by <c>ldar</c>). The time is read after the reservation: so whoever has not reserved when the reader looks will have a later time than that. The reader zeroes
/// what it has consumed before it moves the tail, so a size of 0 is one that was not written.
/// </para>
/// </remarks>
internal sealed class LaneLayout
{
    /// <summary>The first word: "FASTTRPD".</summary>
    public const ulong Magic = 0x4450_5254_5453_4146;

    public const uint Version = 1;

    /// <summary>Bytes of the region's header, in front of the first lane.</summary>
    public const int RegionHeaderLength = 4096;

    // The region's header.
    public const int MagicOffset = 0;
    public const int VersionOffset = 8;
    public const int LaneCountOffset = 12;
    public const int LaneStrideOffset = 16;
    public const int FirstLaneOffset = 24;
    public const int CountersStartOffset = 32;
    public const int CountersLengthOffset = 36;
    public const int RingStartOffset = 40;
    public const int RingLengthOffset = 48;

    /// <summary>u64: where the guard is, from the region's start.</summary>
    public const int GuardOffsetOffset = 56;

    /// <summary>u64: what tells this region from any other.</summary>
    public const int NonceOffset = 64;

    /// <summary>The last bytes of the header: the word that a tracer holds which mends loads (<see cref="HeldWord"/>); 0: there is none.</summary>
    public const int TracerWordOffset = RegionHeaderLength - HeldWord.SharedLength;

    // The header of a lane.

    /// <summary>u64: the owner's thread pointer; 0 of a free lane.</summary>
    public const int OwnerOffset = 0;

    /// <summary>u64: bytes ever reserved.</summary>
    public const int HeadOffset = 8;

    /// <summary>u64: bytes ever consumed; the reader alone writes it.</summary>
    public const int TailOffset = 16;

    /// <summary>u64: records that found no room.</summary>
    public const int DropsOffset = 24;

    /// <summary>Where the counters of a lane begin.</summary>
    public const int CountersStart = 64;

    // A record.

    /// <summary>u32: bytes, this header included, and flags; written last.</summary>
    public const int RecordSizeOffset = 0;

    /// <summary>u32: the number of the site.</summary>
    public const int RecordSiteOffset = 4;

    /// <summary>u64: TSC or CNTVCT.</summary>
    public const int RecordTimeOffset = 8;

    /// <summary>u32: the thread's id as its own control block has it, that is of its pid namespace; 0 where that is not known.</summary>
    public const int RecordThreadOffset = 16;

    /// <summary>u32: the CPU; <see cref="UnknownCpu"/> where that is not known.</summary>
    public const int RecordCpuOffset = 20;

    /// <summary>Where the word with the validity of the fields is, if the size has <see cref="ValidityFlag"/>, else the first field: 8 bytes each.</summary>
    public const int RecordHeaderLength = 24;

    /// <summary>In a size: no record, but the rest of the ring in front of one that did not fit.</summary>
    public const uint FillerFlag = 0x8000_0000;

    /// <summary>In a size: reserved, and not yet complete.</summary>
    public const uint BusyFlag = 0x4000_0000;

    /// <summary>In a size: the first word behind the header tells which fields are valid, bit n of field n.</summary>
    public const uint ValidityFlag = 0x2000_0000;

    public const uint SizeMask = 0x00ff_ffff;

    public const uint UnknownCpu = uint.MaxValue;

    public const ulong HashMultiplier = 0x9E37_79B9_7F4A_7C15;

    public const int StandardLaneCount = 256;
    public const int MaximumLaneCount = 4096;

    /// <summary>Bytes of the guard's area: the largest page there is, so that it is whole pages anywhere. Its first byte is the guard: 1 while programs are to run.</summary>
    public const int GuardLength = 0x10000;

    /// <summary>Two lines of a cache, which processors fetch in pairs: lanes share none.</summary>
    private const int LineAlignment = 128;

    private const int RingAlignment = 64;
    private const int PageLength = 4096;
    private const int SmallestRing = 128;
    private const int LargestRing = 1 << 30;
    private const int LargestCounters = 1 << 26;
    private const int LargestTotal = 1 << 28;
    private const int FewestLanes = 16;

    /// <summary>Lays a region out.</summary>
    /// <param name="countersLength">Bytes of the counters of a lane, a multiple of 8.</param>
    /// <param name="ringLength">Bytes of the ring of a lane: a power of two from 128, or 0 for none.</param>
    /// <param name="laneCount">Lanes without the common one: a power of two.</param>
    public LaneLayout(int countersLength, int ringLength = 0, int laneCount = StandardLaneCount)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(countersLength);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(countersLength, LargestCounters);
        ArgumentOutOfRangeException.ThrowIfNotEqual(countersLength % sizeof(ulong), 0, nameof(countersLength));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(ringLength, LargestRing);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(laneCount, MaximumLaneCount);
        if (!BitOperations.IsPow2(laneCount) || (ringLength != 0 && (ringLength < SmallestRing || !BitOperations.IsPow2(ringLength))))
        {
            throw new ArgumentException("Lanes and bytes of a ring are powers of two.");
        }

        LaneCount = laneCount;
        CountersLength = countersLength;
        RingLength = ringLength;
        RingStart = AlignUp(CountersStart + countersLength, RingAlignment);
        LaneStride = AlignUp((long)RingStart + ringLength, ringLength == 0 ? LineAlignment : PageLength);
        Length = AlignUp(RegionHeaderLength + ((laneCount + 1) * LaneStride), GuardLength);
    }

    /// <summary>Lanes that threads can own; the common one comes behind them.</summary>
    public int LaneCount { get; }

    /// <summary>How far the product of the hash is shifted right, 64 for one lane (where the index is 0).</summary>
    public int HashShift => 64 - BitOperations.Log2((uint)LaneCount);

    /// <summary>Bytes from a lane to the next.</summary>
    public long LaneStride { get; }

    public int CountersLength { get; }

    /// <summary>Where the ring begins in a lane.</summary>
    public int RingStart { get; }

    /// <summary>Bytes of a ring; 0 if there are none.</summary>
    public int RingLength { get; }

    /// <summary>The longest record: one that fits into an empty ring wherever its head stands.</summary>
    public int MaximumRecordLength => RingLength / 2;

    /// <summary>Shared bytes.</summary>
    public long Length { get; }

    /// <summary>Where the guard is, from the region's start.</summary>
    public long GuardOffset => Length;

    /// <summary>Bytes in the target: the shared ones and the guard's area.</summary>
    public long TargetLength => Length + GuardLength;

    /// <summary>Where a lane begins, from the region's start.</summary>
    public long LaneOffset(int lane) => RegionHeaderLength + (lane * LaneStride);

    /// <summary>The lane where the search for a thread's begins.</summary>
    public int FirstLaneOf(ulong threadPointer) => LaneCount == 1 ? 0 : (int)((threadPointer * HashMultiplier) >> HashShift);

    /// <summary>So many lanes, up to the usual number, that their counters do not take more of the address space than is reasonable.</summary>
    public static int LanesFor(int countersLength) =>
        (int)Math.Clamp(BitOperations.RoundUpToPowerOf2((uint)(LargestTotal / Math.Max(countersLength, 1)) + 1) / 2, FewestLanes, StandardLaneCount);

    /// <summary>Bytes of a record.</summary>
    public static int RecordLength(int fields, bool hasValidity) => RecordHeaderLength + ((fields + (hasValidity ? 1 : 0)) * sizeof(ulong));

    private static int AlignUp(int value, int alignment) => (value + alignment - 1) & -alignment;

    private static long AlignUp(long value, long alignment) => (value + alignment - 1) & -alignment;
}
