namespace FastTrap.Symbols;

/// <summary>
/// Where exceptions land: reads the tables of handlers (LSDA, as GCC, Clang and rustc write them) that unwind ranges refer to. One thread.
/// </summary>
internal sealed class LandingPads
{
    private const byte Omitted = 0xff;
    private const int ChunkLength = 1 << 16;

    private readonly ElfFile _elf;
    private readonly byte[] _chunk = new byte[ChunkLength];
    private ulong _chunkAddress;
    private int _chunkLength;

    private LandingPads(ElfFile elf) => _elf = elf;

    /// <summary>
    /// Adds the link-time addresses of all landing pads to <paramref name="pads"/>, and the starts of ranges whose table cannot be read, so that control may
    /// come anywhere in them, to <paramref name="unreadable"/>.
    /// </summary>
    public static void Read(ElfFile elf, EhFrame unwind, List<ulong> pads, List<ulong> unreadable)
    {
        LandingPads reader = new(elf);
        foreach ((ulong start, ulong table) in unwind.HandlerTables)
        {
            int before = pads.Count;
            if (table == EhFrame.UnknownTable || !(reader.TryParse(start, table, false, pads) || reader.TryParse(start, table, true, pads)))
            {
                pads.RemoveRange(before, pads.Count - before);
                unreadable.Add(start);
            }
        }
    }

    private bool TryParse(ulong function, ulong table, bool reload, List<ulong> pads)
    {
        if (reload || table - _chunkAddress >= (ulong)_chunkLength)
        {
            _chunkAddress = table;
            _chunkLength = _elf.ReadAtAddress(table, _chunk);
        }

        int before = pads.Count;
        int offset = (int)(table - _chunkAddress);
        if (offset < _chunkLength && TryParse(new CfiReader(_chunk.AsSpan(offset, _chunkLength - offset), table), function, pads))
        {
            return true;
        }

        pads.RemoveRange(before, pads.Count - before);
        return false;
    }

    private static bool TryParse(CfiReader reader, ulong function, List<ulong> pads)
    {
        ulong landingBase = function;
        byte encoding = reader.ReadByte();
        if (encoding != Omitted && !reader.TryReadPointer(encoding, 0, out landingBase))
        {
            return false;
        }

        if (reader.ReadByte() != Omitted)
        {
            reader.ReadUleb();
        }

        encoding = reader.ReadByte();
        ulong length = reader.ReadUleb();
        if (reader.IsPastEnd || length > (ulong)reader.Rest.Length)
        {
            return false;
        }

        int end = reader.Position + (int)length;
        while (reader.Position < end)
        {
            if (!reader.TryReadPointer(encoding, 0, out _) || !reader.TryReadPointer(encoding, 0, out _) || !reader.TryReadPointer(encoding, 0, out ulong pad))
            {
                return false;
            }

            reader.ReadUleb();
            if (pad != 0)
            {
                pads.Add(unchecked(landingBase + pad));
            }
        }

        return !reader.IsPastEnd && reader.Position == end;
    }
}
