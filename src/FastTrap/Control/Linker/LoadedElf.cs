using System.Buffers.Binary;
using System.Text;

namespace FastTrap.Control;

/// <summary>
/// A program or library as it is loaded: its headers and its dynamic symbols by name, read from the target's memory with bounds, as the linker itself reads
/// them. Nothing of it needs to be relocated yet.
/// </summary>
internal sealed class LoadedElf
{
    private const int HeaderLength = 64;
    private const int ProgramHeaderLength = 56;
    private const int MaximumProgramHeaders = 128;
    private const int MaximumDynamicEntries = 1024;
    private const int SymbolLength = 24;
    private const int MaximumChain = 100_000;
    private const uint PT_LOAD = 1;
    private const uint PT_DYNAMIC = 2;
    private const uint PT_INTERP = 3;
    private const ulong DT_HASH = 4;
    private const ulong DT_STRTAB = 5;
    private const ulong DT_SYMTAB = 6;
    private const ulong DT_DEBUG = 21;
    private const ulong DT_GNU_HASH = 0x6ffffef5;

    private readonly TargetReader _reader;
    private ulong _symbols;
    private ulong _strings;
    private ulong _hash;
    private ulong _gnuHash;

    private LoadedElf(TargetReader reader, ulong headerAddress)
    {
        _reader = reader;
        HeaderAddress = headerAddress;
    }

    /// <summary>Where the ELF header is.</summary>
    public ulong HeaderAddress { get; }

    /// <summary>What is added to a link-time address.</summary>
    public ulong Bias { get; private set; }

    /// <summary>The lowest address of a segment.</summary>
    public ulong Start { get; private set; }

    /// <summary>The address behind the highest of a segment.</summary>
    public ulong End { get; private set; }

    /// <summary>The entry point in the target; 0 if there is none.</summary>
    public ulong Entry { get; private set; }

    /// <summary>Whether it has a dynamic section.</summary>
    public bool IsDynamic { get; private set; }

    /// <summary>Whether it names a run-time linker.</summary>
    public bool HasInterpreter { get; private set; }

    /// <summary>Where the address of the linker's struct r_debug is to be found once it has started; 0 without such a place.</summary>
    public ulong DebugSlot { get; private set; }

    /// <summary>Reads the headers at an address; false if there are none.</summary>
    public static bool TryRead(TargetReader reader, ulong headerAddress, out LoadedElf elf)
    {
        elf = new LoadedElf(reader, headerAddress);
        Span<byte> header = stackalloc byte[HeaderLength];
        if (headerAddress == 0 || !reader.TryRead(headerAddress, header) || !header.StartsWith("\u007fELF"u8) || header[4] != 2)
        {
            return false;
        }

        ulong offset = Word(header, 32);
        int count = BinaryPrimitives.ReadUInt16LittleEndian(header[56..]);
        if (BinaryPrimitives.ReadUInt16LittleEndian(header[54..]) != ProgramHeaderLength || count == 0 || count > MaximumProgramHeaders)
        {
            return false;
        }

        Span<byte> headers = stackalloc byte[count * ProgramHeaderLength];
        return reader.TryRead(headerAddress + offset, headers) && elf.ReadSegments(headers, Word(header, 24));
    }

    /// <summary>The addresses of a symbol that is defined here: more than one if it has versions.</summary>
    public IReadOnlyList<ulong> Find(string name)
    {
        HashSet<ulong> found = [];
        byte[] wanted = Encoding.ASCII.GetBytes(name + "\0");
        if (_symbols != 0 && _strings != 0 && _gnuHash != 0)
        {
            FindByGnuHash(wanted, found);
        }
        else if (_symbols != 0 && _strings != 0 && _hash != 0)
        {
            FindByHash(wanted, found);
        }

        return [.. found];
    }

    private static ulong Word(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[offset..]);

    private bool ReadSegments(ReadOnlySpan<byte> headers, ulong entry)
    {
        ulong lowest = ulong.MaxValue;
        ulong highest = 0;
        ulong dynamic = 0;
        ulong dynamicLength = 0;
        bool isBiasKnown = false;
        for (; headers.Length >= ProgramHeaderLength; headers = headers[ProgramHeaderLength..])
        {
            ulong address = Word(headers, 16);
            switch (BinaryPrimitives.ReadUInt32LittleEndian(headers))
            {
                case PT_LOAD:
                    if (Word(headers, 8) == 0)
                    {
                        Bias = unchecked(HeaderAddress - address);
                        isBiasKnown = true;
                    }

                    lowest = Math.Min(lowest, address);
                    highest = Math.Max(highest, unchecked(address + Word(headers, 40)));
                    break;
                case PT_DYNAMIC:
                    dynamic = address;
                    dynamicLength = Word(headers, 32);
                    break;
                case PT_INTERP:
                    HasInterpreter = true;
                    break;
                default:
                    break;
            }
        }

        if (!isBiasKnown || lowest >= highest)
        {
            return false;
        }

        Start = unchecked(Bias + lowest) & ~4095UL;
        End = unchecked(Bias + highest + 4095) & ~4095UL;
        Entry = entry == 0 ? 0 : unchecked(Bias + entry);
        if (dynamic != 0)
        {
            ReadDynamic(unchecked(Bias + dynamic), (int)Math.Min(dynamicLength / 16, MaximumDynamicEntries));
        }

        return true;
    }

    private void ReadDynamic(ulong address, int count)
    {
        byte[] entries = new byte[count * 16];
        if (!_reader.TryRead(address, entries))
        {
            return;
        }

        IsDynamic = true;
        for (int i = 0; i < count; i++)
        {
            ulong value = Word(entries, (i * 16) + 8);
            switch (Word(entries, i * 16))
            {
                case 0:
                    return;
                case DT_HASH:
                    _hash = Relocate(value);
                    break;
                case DT_STRTAB:
                    _strings = Relocate(value);
                    break;
                case DT_SYMTAB:
                    _symbols = Relocate(value);
                    break;
                case DT_GNU_HASH:
                    _gnuHash = Relocate(value);
                    break;
                case DT_DEBUG:
                    DebugSlot = address + (ulong)(i * 16) + 8;
                    break;
                default:
                    break;
            }
        }
    }

    /// <summary>Linkers relocate their own copy, or this one in place.</summary>
    private ulong Relocate(ulong value) => value >= Start && value < End ? value : unchecked(Bias + value);

    private void FindByGnuHash(ReadOnlySpan<byte> name, HashSet<ulong> found)
    {
        uint hash = 5381;
        foreach (byte c in name[..^1])
        {
            hash = unchecked((hash * 33) + c);
        }

        Span<byte> header = stackalloc byte[16];
        if (!_reader.TryRead(_gnuHash, header))
        {
            return;
        }

        uint buckets = BinaryPrimitives.ReadUInt32LittleEndian(header);
        uint first = BinaryPrimitives.ReadUInt32LittleEndian(header[4..]);
        uint bloom = BinaryPrimitives.ReadUInt32LittleEndian(header[8..]);
        ulong bucketStart = _gnuHash + 16 + (bloom * 8UL);
        if (buckets == 0 || !_reader.TryReadHalf(bucketStart + (hash % buckets * 4UL), out uint index) || index < first)
        {
            return;
        }

        ulong chain = bucketStart + (buckets * 4UL);
        for (int i = 0; i < MaximumChain && _reader.TryReadHalf(chain + ((index - first) * 4UL), out uint entry); i++, index++)
        {
            if ((entry | 1) == (hash | 1))
            {
                AddIfNamed(index, name, found);
            }

            if ((entry & 1) != 0)
            {
                return;
            }
        }
    }

    private void FindByHash(ReadOnlySpan<byte> name, HashSet<ulong> found)
    {
        uint hash = 0;
        foreach (byte c in name[..^1])
        {
            hash = unchecked((hash << 4) + c);
            uint high = hash & 0xf0000000;
            hash = (hash ^ (high >> 24)) & ~high;
        }

        if (!_reader.TryReadHalf(_hash, out uint buckets) || buckets == 0 || !_reader.TryReadHalf(_hash + 8 + (hash % buckets * 4UL), out uint index))
        {
            return;
        }

        for (int i = 0; i < MaximumChain && index != 0; i++)
        {
            AddIfNamed(index, name, found);
            if (!_reader.TryReadHalf(_hash + 8 + ((buckets + (ulong)index) * 4), out index))
            {
                return;
            }
        }
    }

    private void AddIfNamed(uint index, ReadOnlySpan<byte> name, HashSet<ulong> found)
    {
        Span<byte> symbol = stackalloc byte[SymbolLength];
        Span<byte> actual = stackalloc byte[name.Length];
        if (_reader.TryRead(_symbols + (index * (ulong)SymbolLength), symbol)
            && BinaryPrimitives.ReadUInt16LittleEndian(symbol[6..]) != 0
            && _reader.TryRead(_strings + BinaryPrimitives.ReadUInt32LittleEndian(symbol), actual)
            && actual.SequenceEqual(name))
        {
            found.Add(unchecked(Bias + Word(symbol, 8)));
        }
    }
}
