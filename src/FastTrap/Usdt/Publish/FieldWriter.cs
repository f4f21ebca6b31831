using System.Buffers.Binary;
using System.Text;

namespace FastTrap.Usdt;

/// <summary>Writes little-endian fields one after another. The room must suffice.</summary>
internal ref struct FieldWriter(Span<byte> room)
{
    private Span<byte> _rest = room;

    public void UInt16(ushort value)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(_rest, value);
        _rest = _rest[2..];
    }

    public void UInt32(uint value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_rest, value);
        _rest = _rest[4..];
    }

    public void UInt64(ulong value)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(_rest, value);
        _rest = _rest[8..];
    }

    public void Bytes(scoped ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(_rest);
        _rest = _rest[bytes.Length..];
    }

    /// <summary>An ASCII text with a terminating zero.</summary>
    public void Text(string text)
    {
        Encoding.ASCII.GetBytes(text, _rest);
        _rest[text.Length] = 0;
        _rest = _rest[(text.Length + 1)..];
    }

    /// <summary>Leaves bytes as they are.</summary>
    public void Skip(int count) => _rest = _rest[count..];
}
