using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace FastTrap.Tests.Fuzz;

/// <summary>Makes damaged inputs out of good ones. The same seed gives the same inputs.</summary>
internal sealed class Mutator(int seed, IReadOnlyList<byte[]> corpus)
{
    private const int LongestInput = 1 << 20;

    private static readonly ulong[] s_values =
    [
        0, 1, 2, 3, 4, 7, 8, 0x0f, 0x10, 0x1f, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000,
        0xffff_fff8, 0xffff_ffff, 0x1_0000_0000, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, ulong.MaxValue - 7, ulong.MaxValue,
    ];

    private readonly Random _random = new(seed);
    private byte[] _buffer = [];

    /// <summary>The next input; valid until the next call.</summary>
    public ReadOnlySpan<byte> Next()
    {
        byte[] original = corpus[_random.Next(corpus.Count)];
        int room = Math.Min(LongestInput, (original.Length * 2) + 256);
        if (_buffer.Length < room)
        {
            _buffer = new byte[room];
        }

        original.CopyTo(_buffer, 0);
        int length = original.Length;
        for (int changes = 1 << _random.Next(5); changes > 0; changes--)
        {
            length = Change(_buffer.AsSpan(0, room), length);
        }

        return _buffer.AsSpan(0, length);
    }

    private int Change(Span<byte> room, int length)
    {
        if (length == 0)
        {
            room[0] = (byte)_random.Next(256);
            return 1;
        }

        int at = _random.Next(length);
        switch (_random.Next(16))
        {
            case < 3:
                room[at] ^= (byte)(1 << _random.Next(8));
                return length;
            case < 5:
                room[at] = (byte)_random.Next(256);
                return length;
            case < 9:
                WriteValue(room[..length], at, s_values[_random.Next(s_values.Length)]);
                return length;
            case < 11:
                // A value a little beside the one that stands there, or the length of the whole.
                WriteValue(room[..length], at, _random.Next(3) == 0 ? (ulong)(length + _random.Next(-9, 9)) : ReadValue(room[..length], at) + (ulong)_random.Next(-9, 9));
                return length;
            case 11:
                // One part over another: tables in each other's place.
                int size = Math.Min(_random.Next(1, 65), length);
                room.Slice(_random.Next(length - size + 1), size).CopyTo(room[_random.Next(length - size + 1)..]);
                return length;
            case 12:
                // A piece of another input.
                byte[] other = corpus[_random.Next(corpus.Count)];
                int piece = Math.Min(_random.Next(1, 129), Math.Min(other.Length, length - at));
                other.AsSpan(_random.Next(other.Length - piece + 1), piece).CopyTo(room[at..]);
                return length;
            case 13:
                // Something inserted.
                int more = Math.Min(_random.Next(1, 33), room.Length - length);
                room[at..length].CopyTo(room[(at + more)..]);
                room.Slice(at, more).Fill((byte)_random.Next(256));
                return length + more;
            case 14:
                // Something left out.
                int less = Math.Min(_random.Next(1, 33), length - at);
                room[(at + less)..length].CopyTo(room[at..]);
                return length - less;
            default:
                return _random.Next(4) == 0 ? at : length;
        }
    }

    private void WriteValue(Span<byte> bytes, int at, ulong value)
    {
        int size = 1 << _random.Next(4);
        at &= -size;
        Span<byte> field = bytes[at..];
        Span<byte> all = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(all, value);
        all[..Math.Min(size, field.Length)].CopyTo(field);
    }

    private static ulong ReadValue(ReadOnlySpan<byte> bytes, int at) =>
        bytes.Length - (at & ~3) < 4 ? bytes[at] : MemoryMarshal.Read<uint>(bytes[(at & ~3)..]);
}
