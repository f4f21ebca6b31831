using FastTrap.Isa;

namespace FastTrap.Tests.Isa;

/// <summary>A target memory of some windows of bytes; everything else is unmapped, and so are pages that are made so.</summary>
internal sealed class WindowMemory : ITargetMemory
{
    private readonly List<(ulong Address, byte[] Bytes)> _windows = [];

    /// <summary>Pages (by address) whose writes fail.</summary>
    public HashSet<ulong> ReadOnlyPages { get; } = [];

    public int Writes { get; private set; }

    public byte[] Add(ulong address, ReadOnlySpan<byte> bytes)
    {
        byte[] copy = bytes.ToArray();
        _windows.Add((address, copy));
        return copy;
    }

    public bool TryRead(ulong address, Span<byte> buffer)
    {
        if (Find(address, buffer.Length, out Span<byte> found))
        {
            found.CopyTo(buffer);
            return true;
        }

        return false;
    }

    public bool TryWrite(ulong address, ReadOnlySpan<byte> bytes)
    {
        if (ReadOnlyPages.Contains(address & ~4095UL) || !Find(address, bytes.Length, out Span<byte> found))
        {
            return false;
        }

        Writes++;
        bytes.CopyTo(found);
        return true;
    }

    private bool Find(ulong address, int length, out Span<byte> found)
    {
        foreach ((ulong start, byte[] bytes) in _windows)
        {
            ulong offset = address - start;
            if (offset <= (ulong)bytes.Length && (ulong)length <= (ulong)bytes.Length - offset)
            {
                found = bytes.AsSpan((int)offset, length);
                return true;
            }
        }

        found = default;
        return false;
    }
}
