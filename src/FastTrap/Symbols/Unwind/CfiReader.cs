using System.Buffers.Binary;

namespace FastTrap.Symbols;

/// <summary>
/// Reads numbers of unwind tables from bytes that may be hostile. Past the end every read gives 0 and sets <see cref="IsPastEnd"/>, so that
/// a
/// parser checks once per record.
/// </summary>
internal ref struct CfiReader(ReadOnlySpan<byte> bytes, ulong address)
{
    /// <summary>What a pointer is relative to.</summary>
    public const byte ApplicationMask = 0x70;

    private const byte FormatMask = 0x0f;
    private const byte Indirect = 0x80;
    private const byte PcRelative = 0x10;
    private const byte DataRelative = 0x30;

    private readonly ReadOnlySpan<byte> _bytes = bytes;
    private readonly ulong _address = address;

    /// <summary>Where the next read begins.</summary>
    public int Position { get; private set; }

    /// <summary>The address of what is read next.</summary>
    public readonly ulong Address => _address + (ulong)Position;

    /// <summary>Whether a read asked for bytes that are not there.</summary>
    public bool IsPastEnd { get; private set; }

    /// <summary>Whether everything has been read.</summary>
    public readonly bool IsAtEnd => Position >= _bytes.Length;

    /// <summary>Bytes that are left.</summary>
    public readonly ReadOnlySpan<byte> Rest => _bytes[Position..];

    public byte ReadByte() => Take(1) is { Length: 1 } taken ? taken[0] : (byte)0;

    public uint ReadUInt32() => Take(4) is { Length: 4 } taken ? BinaryPrimitives.ReadUInt32LittleEndian(taken) : 0;

    public ulong ReadUInt64() => Take(8) is { Length: 8 } taken ? BinaryPrimitives.ReadUInt64LittleEndian(taken) : 0;

    /// <summary>Unsigned LEB128; more than 64 bits are cut off.</summary>
    public ulong ReadUleb()
    {
        ulong value = 0;
        for (int shift = 0; ; shift += 7)
        {
            byte next = ReadByte();
            value |= shift < 64 ? (ulong)(next & 0x7f) << shift : 0;
            if ((next & 0x80) == 0)
            {
                return value;
            }
        }
    }

    /// <summary>Signed LEB128; more than 64 bits are cut off.</summary>
    public long ReadSleb()
    {
        long value = 0;
        int shift = 0;
        byte next;
        do
        {
            next = ReadByte();
            value |= shift < 64 ? (long)(next & 0x7f) << shift : 0;
            shift += 7;
        }
        while ((next & 0x80) != 0);
        return shift < 64 && (next & 0x40) != 0 ? value | (-1L << shift) : value;
    }

    /// <summary>Skips bytes.</summary>
    public void Skip(ulong count) => Take((int)Math.Min(count, int.MaxValue));

    /// <summary>A zero-terminated string without its end.</summary>
    public ReadOnlySpan<byte> ReadString()
    {
        int end = _bytes[Position..].IndexOf((byte)0);
        if (end < 0)
        {
            IsPastEnd = true;
            Position = _bytes.Length;
            return default;
        }

        return Take(end + 1)[..end];
    }

    /// <summary>
    /// A pointer in one of the DW_EH_PE encodings. False when the value cannot be known from the file (indirect, aligned, relative to what
    /// is
    /// not known here); its bytes are skipped all the same if their number is known.
    /// </summary>
    public bool TryReadPointer(byte encoding, ulong dataBase, out ulong value)
    {
        ulong at = _address + (ulong)Position;
        ulong? raw = (encoding & FormatMask) switch
        {
            0x00 or 0x04 or 0x0c => ReadUInt64(),
            0x01 => ReadUleb(),
            0x02 => (ushort)ReadUInt16(),
            0x03 => ReadUInt32(),
            0x09 => (ulong)ReadSleb(),
            0x0a => (ulong)(short)ReadUInt16(),
            0x0b => (ulong)(int)ReadUInt32(),
            _ => null,
        };
        value = raw ?? 0;
        if (raw == null || (encoding & Indirect) != 0)
        {
            return false;
        }

        switch (encoding & ApplicationMask)
        {
            case 0:
                return true;
            case PcRelative:
                value += at;
                return true;
            case DataRelative when dataBase != 0:
                value += dataBase;
                return true;
            default:
                return false;
        }
    }

    private ushort ReadUInt16() => Take(2) is { Length: 2 } taken ? BinaryPrimitives.ReadUInt16LittleEndian(taken) : (ushort)0;

    private ReadOnlySpan<byte> Take(int count)
    {
        if (count > _bytes.Length - Position)
        {
            IsPastEnd = true;
            Position = _bytes.Length;
            return default;
        }

        ReadOnlySpan<byte> taken = _bytes.Slice(Position, count);
        Position += count;
        return taken;
    }
}
