using System.Text;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Reads small things from a target whose memory may hold anything: whole or not at all. Any thread.</summary>
internal readonly struct TargetReader(IPlatform platform, int processId)
{
    private const int PageLength = 4096;

    public bool TryRead(ulong address, Span<byte> bytes) => platform.ReadMemory(processId, address, bytes) == bytes.Length;

    public bool TryReadWord(ulong address, out ulong value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        bool isRead = TryRead(address, bytes);
        value = isRead ? BitConverter.ToUInt64(bytes) : 0;
        return isRead;
    }

    public bool TryReadHalf(ulong address, out uint value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        bool isRead = TryRead(address, bytes);
        value = isRead ? BitConverter.ToUInt32(bytes) : 0;
        return isRead;
    }

    /// <summary>Text up to a zero byte; null if it is longer than any path, or cannot be read.</summary>
    public string? ReadText(ulong address)
    {
        Span<byte> bytes = stackalloc byte[PageLength];
        int length = 0;
        while (length < bytes.Length)
        {
            // Up to the end of the page: the next may not be there.
            ulong at = address + (ulong)length;
            Span<byte> piece = bytes.Slice(length, (int)Math.Min((ulong)Math.Min(256, bytes.Length - length), PageLength - (at % PageLength)));
            if (!TryRead(at, piece))
            {
                return null;
            }

            int end = piece.IndexOf((byte)0);
            if (end >= 0)
            {
                return Encoding.UTF8.GetString(bytes[..(length + end)]);
            }

            length += piece.Length;
        }

        return null;
    }
}
