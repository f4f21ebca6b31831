using System.Buffers.Binary;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Where things lie in a journal: a header, room for one signal frame, and the entries, one behind the other.</summary>
/// <remarks>
/// The first word of an entry, its length with what it is, is written last: that commits it. A sum over the rest tells one that was overwritten while it was read. All numbers are little-endian.
/// </remarks>
internal static class JournalLayout
{
    /// <summary>Its name in <c>/proc/PID/maps</c>.</summary>
    public const string Name = "fasttrap.journal";

    /// <summary>The first word: "FASTTRPJ".</summary>
    public const ulong Magic = 0x4a50_5254_5453_4146;

    public const uint Version = 2;

    // The header.
    public const int VersionOffset = 8;
    public const int OwnerOffset = 12;
    public const int OwnerStartOffset = 16;
    public const int NonceOffset = 24;
    public const int BootOffset = 32;
    public const int BootLength = 16;
    public const int HeaderLength = 64;

    /// <summary>Where room for a signal frame ends, and the entries begin (<see cref="Native.EscapeRoute.FrameTop"/>).</summary>
    public const int EntriesOffset = 0x8000;

    // An entry: of a site; or, with no patch and nothing behind its fields, of a semaphore, whose address is the start.
    public const int SumOffset = 4;
    public const int StartOffset = 8;
    public const int SiteOffset = 16;
    public const int CodeOffset = 24;
    public const int IslandOffset = 32;
    public const int CodeLengthOffset = 40;
    public const int WindowLengthOffset = 44;
    public const int WindowCodeLengthOffset = 45;
    public const int PatchLengthOffset = 46;
    public const int OriginalLengthOffset = 47;
    public const int PointCountOffset = 48;
    public const int BodyOffset = 52;
    public const int BodyLengthOffset = 56;
    public const int BytesOffset = 64;

    public const uint LengthMask = 0x00ff_ffff;
    public const uint LiveFlag = 0x0100_0000;
    public const uint DeadFlag = 0x0200_0000;

    // A point: the offset, the bytes that were pushed, and the original program counter.
    public const int PushedOffset = 4;
    public const int OriginalOffset = 8;
    public const int PointLength = 16;

    public static uint Sum(ReadOnlySpan<byte> entry)
    {
        uint sum = 2166136261;
        for (int i = StartOffset; i + sizeof(uint) <= entry.Length; i += sizeof(uint))
        {
            sum = unchecked((sum ^ BinaryPrimitives.ReadUInt32LittleEndian(entry[i..])) * 16777619);
        }

        return sum;
    }
}
