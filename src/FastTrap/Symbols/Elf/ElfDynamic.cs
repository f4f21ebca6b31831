using System.Buffers.Binary;
using System.Text;

namespace FastTrap.Symbols;

/// <summary>The entries of the PT_DYNAMIC segment which are used here; addresses are link-time ones, 0 when absent.</summary>
internal sealed class ElfDynamic
{
    private const int EntrySize = 16;
    private const ulong MaxBytes = 1 << 20;
    private const ulong MaxSonameBytes = 4096;
    private const ulong PieFlag = 0x08000000;

    public ulong StringTable { get; private set; }

    public ulong StringTableSize { get; private set; }

    public ulong SymbolTable { get; private set; }

    public ulong Hash { get; private set; }

    public ulong GnuHash { get; private set; }

    public ulong Rela { get; private set; }

    public ulong RelaSize { get; private set; }

    public ulong RelativeRelocations { get; private set; }

    public ulong RelativeRelocationsSize { get; private set; }

    public ulong JumpRelocations { get; private set; }

    public ulong JumpRelocationsSize { get; private set; }

    public ulong Versions { get; private set; }

    public ulong VersionDefinitions { get; private set; }

    public ulong VersionNeeds { get; private set; }

    /// <summary>DF_1_PIE.</summary>
    public bool IsMarkedPie { get; private set; }

    /// <summary>DT_SONAME, or null.</summary>
    public string? Soname { get; private set; }

    /// <summary>Whether the file has a dynamic segment with contents.</summary>
    public bool IsPresent { get; private set; }

    /// <summary>Reads the first PT_DYNAMIC segment.</summary>
    /// <exception cref="ElfFormatException">It reaches past the end of the file.</exception>
    public static ElfDynamic Read(ElfFile elf)
    {
        ElfDynamic result = new();
        foreach (ElfSegment segment in elf.Segments)
        {
            if (segment.Type == ElfSegment.Dynamic && segment.FileSize >= EntrySize)
            {
                result.Parse(elf, elf.ReadRange(segment.FileOffset, Math.Min(segment.FileSize, MaxBytes), "the dynamic segment"));
                break;
            }
        }

        return result;
    }

    /// <summary>How many entries the dynamic symbol table has, which only its hash tables tell; 0 when neither is there.</summary>
    /// <exception cref="ElfFormatException">A hash table is malformed.</exception>
    public int CountSymbols(ElfFile elf)
    {
        if (Hash != 0)
        {
            // nbucket, nchain: one chain entry for each symbol.
            Span<byte> header = stackalloc byte[8];
            if (elf.ReadAtAddress(Hash, header) == header.Length)
            {
                return Bounded(elf, BinaryPrimitives.ReadUInt32LittleEndian(header[4..]));
            }
        }

        return GnuHash == 0 ? 0 : CountByGnuHash(elf);
    }

    private static int Bounded(ElfFile elf, ulong count)
    {
        // A symbol takes 24 bytes of the file, so a larger count is a lie.
        if (count > (ulong)elf.Length / 24)
        {
            throw elf.Fail(ElfProblem.Malformed, $"the hash table counts {count} symbols, more than the file has room for");
        }

        return (int)count;
    }

    private int CountByGnuHash(ElfFile elf)
    {
        Span<byte> header = stackalloc byte[16];
        if (elf.ReadAtAddress(GnuHash, header) != header.Length)
        {
            throw elf.Fail(ElfProblem.Truncated, "the GNU hash table is not in the file");
        }

        uint bucketCount = BinaryPrimitives.ReadUInt32LittleEndian(header);
        uint firstSymbol = BinaryPrimitives.ReadUInt32LittleEndian(header[4..]);
        uint bloomWords = BinaryPrimitives.ReadUInt32LittleEndian(header[8..]);
        ulong buckets = GnuHash + 16 + ((ulong)bloomWords * 8);
        byte[] table = elf.ReadRangeAtAddress(buckets, (ulong)bucketCount * 4, "the GNU hash buckets");
        uint last = 0;
        for (int i = 0; i < table.Length; i += 4)
        {
            last = Math.Max(last, BinaryPrimitives.ReadUInt32LittleEndian(table.AsSpan(i)));
        }

        if (last < firstSymbol)
        {
            return Bounded(elf, firstSymbol);
        }

        // The last bucket's chain ends with an entry whose lowest bit is set. The chain is read in blocks.
        ulong chain = buckets + ((ulong)bucketCount * 4) + ((ulong)(last - firstSymbol) * 4);
        Bounded(elf, last);
        byte[] block = new byte[4096];
        while (true)
        {
            int count = elf.ReadAtAddress(chain, block) & ~3;
            if (count == 0)
            {
                throw elf.Fail(ElfProblem.Malformed, "the last chain of the GNU hash table has no end");
            }

            for (int i = 0; i < count; i += 4)
            {
                last++;
                if ((block[i] & 1) != 0)
                {
                    return Bounded(elf, last);
                }
            }

            chain += (ulong)count;
        }
    }

    private void Parse(ElfFile elf, ReadOnlySpan<byte> bytes)
    {
        IsPresent = true;
        ulong? soname = null;
        for (; bytes.Length >= EntrySize; bytes = bytes[EntrySize..])
        {
            ulong tag = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
            ulong value = BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]);
            switch (tag)
            {
                case 0:
                    bytes = bytes[..EntrySize];
                    break;
                case 2: JumpRelocationsSize = value; break;
                case 4: Hash = value; break;
                case 5: StringTable = value; break;
                case 6: SymbolTable = value; break;
                case 7: Rela = value; break;
                case 8: RelaSize = value; break;
                case 10: StringTableSize = value; break;
                case 14: soname = value; break;
                case 23: JumpRelocations = value; break;
                case 35: RelativeRelocationsSize = value; break;
                case 36: RelativeRelocations = value; break;
                case 0x6ffffef5: GnuHash = value; break;
                case 0x6ffffff0: Versions = value; break;
                case 0x6ffffffb: IsMarkedPie = (value & PieFlag) != 0; break;
                case 0x6ffffffc: VersionDefinitions = value; break;
                case 0x6ffffffe: VersionNeeds = value; break;
                default: break;
            }
        }

        if (soname is { } offset && offset < StringTableSize)
        {
            Soname = ReadString(elf, StringTable + offset, StringTableSize - offset);
        }
    }

    private static string? ReadString(ElfFile elf, ulong address, ulong available)
    {
        byte[] bytes = new byte[(int)Math.Min(available, MaxSonameBytes)];
        ReadOnlySpan<byte> read = bytes.AsSpan(0, elf.ReadAtAddress(address, bytes));
        int end = read.IndexOf((byte)0);
        return end <= 0 ? null : Encoding.UTF8.GetString(read[..end]);
    }
}
