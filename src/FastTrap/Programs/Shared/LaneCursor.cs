using System.Runtime.CompilerServices;

namespace FastTrap.Programs.Shared;

/// <summary>Where a reader is in the ring of one lane: what is consumed, what was given out, what is complete. The memory is held by who has it.</summary>
/// <remarks>
/// All positions are bytes since the beginning of time; a ring holds those from the tail to the head. Nothing that the target has written is believed: a size or a head that cannot be makes the lane broken, and it is not looked at again.
/// </remarks>
internal unsafe struct LaneCursor
{
    private readonly byte* _lane;
    private readonly byte* _ring;
    private readonly uint _length;

    public LaneCursor(SharedRegion region, int lane)
    {
        _lane = region.Memory.Start + region.Layout.LaneOffset(lane);
        _ring = _lane + region.Layout.RingStart;
        _length = (uint)region.Layout.RingLength;
        Consumed = Volatile.Read(ref *(ulong*)(_lane + LaneLayout.TailOffset));
        Next = Consumed;
        Limit = Consumed;
    }

    /// <summary>What the producers know to be free again: the tail.</summary>
    public ulong Consumed { get; private set; }

    /// <summary>The first record that was not given out.</summary>
    public ulong Next { get; private set; }

    /// <summary>Up to here all records are complete.</summary>
    public ulong Limit { get; private set; }

    /// <summary>Whether something behind <see cref="Limit"/> was reserved and not complete when it was looked at.</summary>
    public bool IsPending { get; private set; }

    /// <summary>Whether the target has written what cannot be.</summary>
    public bool IsBroken { get; private set; }

    /// <summary>Records which were begun and will never be complete.</summary>
    public int Abandoned { get; private set; }

    public readonly bool HasNext => Next != Limit;

    /// <summary>Whether a producer has ever reserved anything here, or claimed it.</summary>
    public readonly bool IsUsed => Volatile.Read(ref *(ulong*)(_lane + LaneLayout.OwnerOffset)) != 0 || Volatile.Read(ref *(ulong*)(_lane + LaneLayout.HeadOffset)) != Limit;

    /// <summary>The time of the next record, which there is.</summary>
    public readonly ulong NextTime => *(ulong*)(At(Next) + LaneLayout.RecordTimeOffset);

    /// <summary>Moves <see cref="Limit"/> over what became complete, up to a number of bytes, but not beyond the ring's end, where the next call goes on.</summary>
    /// <param name="most">Bytes.</param>
    /// <param name="isLast">No program runs any more: what is not complete will never be.</param>
    /// <returns>Whether there is something to give out.</returns>
    public bool Extend(int most, bool isLast = false)
    {
        if (IsBroken)
        {
            return HasNext;
        }

        ulong head = Volatile.Read(ref *(ulong*)(_lane + LaneLayout.HeadOffset));
        if (head - Consumed > _length || head < Limit)
        {
            IsBroken = true;
            return HasNext;
        }

        // One piece of the ring at a time.
        ulong position = Limit;
        ulong end = Math.Min(Math.Min(head, position + (ulong)most), EndOfLap(Next));
        IsPending = false;
        while (position < end)
        {
            uint word = Volatile.Read(ref *(uint*)At(position));
            uint size = word & LaneLayout.SizeMask;
            bool isComplete = word != 0 && (word & LaneLayout.BusyFlag) == 0;
            if (!isComplete && !isLast)
            {
                IsPending = true;
                break;
            }

            bool isRecord = isComplete && (word & LaneLayout.FillerFlag) == 0;
            if (!isRecord && HasNext)
            {
                // What stands in front of it is given out first.
                break;
            }

            if (word == 0)
            {
                // How long it was to be is not known, so nothing behind it can be found.
                size = (uint)(head - position);
            }
            else if (size % sizeof(ulong) != 0 || size < (isRecord ? LaneLayout.RecordHeaderLength : sizeof(ulong))
                || size > Math.Min(head, EndOfLap(position)) - position)
            {
                IsBroken = true;
                break;
            }

            position += size;
            Limit = position;
            if (!isRecord)
            {
                Abandoned += isComplete ? 0 : 1;
                Next = position;
                end = Math.Min(head, EndOfLap(position));
            }
        }

        return HasNext;
    }

    /// <summary>Gives out the next record, which there is.</summary>
    public ReadOnlySpan<byte> Take()
    {
        byte* record = At(Next);

        // What was complete has not changed, unless the target has gone mad meanwhile.
        int length = (int)Math.Min(Math.Max(*(uint*)record & LaneLayout.SizeMask, LaneLayout.RecordHeaderLength), Limit - Next);
        Next += (uint)length;
        return new ReadOnlySpan<byte>(record, length);
    }

    /// <summary>Gives out all that is complete, one piece of the ring.</summary>
    public ReadOnlySpan<byte> TakeAll()
    {
        ReadOnlySpan<byte> bytes = new(At(Next), (int)(Limit - Next));
        Next = Limit;
        return bytes;
    }

    /// <summary>Frees what was given out: nobody reads it any more.</summary>
    public void Free()
    {
        if (Next == Consumed)
        {
            return;
        }

        // Any word may be a size next time, so all are zeroed, and before the producers may know.
        uint from = (uint)Consumed & (_length - 1);
        uint length = (uint)(Next - Consumed);
        uint first = Math.Min(length, _length - from);
        new Span<byte>(_ring + from, (int)first).Clear();
        new Span<byte>(_ring, (int)(length - first)).Clear();
        Consumed = Next;
        Volatile.Write(ref *(ulong*)(_lane + LaneLayout.TailOffset), Consumed);
    }

    private readonly ulong EndOfLap(ulong position) => (position | (_length - 1)) + 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly byte* At(ulong position) => _ring + ((uint)position & (_length - 1));
}
