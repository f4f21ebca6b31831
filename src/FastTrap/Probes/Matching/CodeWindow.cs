namespace FastTrap.Probes;

/// <summary>Reads code: as much of the buffer as there is, from the target's text without our traps, or from a file. Returns bytes read.</summary>
internal delegate int ReadCode(ulong address, Span<byte> buffer);

/// <summary>
/// Code at ascending addresses, read in large pieces and given out in small ones. Two rows of addresses may be asked for in turn: functions and the parts that were split off them. One thread.
/// </summary>
internal sealed class CodeWindow(ReadCode read)
{
    private const int WindowLength = 256 * 1024;

    private Piece _last = new();
    private Piece _other = new();

    /// <summary>The bytes at an address: <paramref name="length"/>, or fewer where readable memory ends. Valid until the next call.</summary>
    public ReadOnlySpan<byte> Get(ulong address, int length)
    {
        if (!_last.Contains(address, length))
        {
            (_last, _other) = (_other, _last);
            if (!_last.Contains(address, length))
            {
                Fill(_last, address, length);
            }
        }

        return _last.Get(address, length);
    }

    private void Fill(Piece piece, ulong address, int length)
    {
        if (length > piece.Bytes.Length)
        {
            piece.Bytes = new byte[Math.Max(length, WindowLength)];
        }

        piece.Start = address;
        piece.Length = Math.Max(0, read(address, piece.Bytes));
        if (piece.Length < length)
        {
            // A page may be missing behind: what is wanted may still be there.
            piece.Length = Math.Max(piece.Length, Math.Max(0, read(address, piece.Bytes.AsSpan(0, length))));
        }
    }

    private sealed class Piece
    {
        public byte[] Bytes { get; set; } = [];

        public ulong Start { get; set; }

        public int Length { get; set; }

        public bool Contains(ulong address, int length) => address >= Start && address + (ulong)length <= Start + (ulong)Length;

        public ReadOnlySpan<byte> Get(ulong address, int length)
        {
            if (address < Start || address - Start >= (ulong)Length)
            {
                return default;
            }

            int offset = (int)(address - Start);
            return Bytes.AsSpan(offset, Math.Min(length, Length - offset));
        }
    }
}
