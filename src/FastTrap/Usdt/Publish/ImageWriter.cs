using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using FastTrap.Symbols;

namespace FastTrap.Usdt;

/// <summary>One probe of an image.</summary>
/// <param name="Name">As the note says it.</param>
/// <param name="Arguments">As the note says them.</param>
internal readonly record struct ImageProbe(string Name, string Arguments);

/// <summary>Where things are in an image, as addresses relative to its load address.</summary>
/// <param name="Base">The symbol <see cref="ImageWriter.BaseSymbol"/>.</param>
/// <param name="Functions">Each probe's function, which begins with the probed nop.</param>
/// <param name="Semaphores">Each probe's semaphore, 16 bits.</param>
internal sealed record ImageLayout(ulong Base, ulong[] Functions, ulong[] Semaphores);

/// <summary>
/// Writes an ELF shared library with one function for each probe (a nop, which is probed, and a return), semaphores, and the notes that say
/// so. It has no relocations and needs no other library. Pure: any machine's image can be made anywhere.
/// </summary>
/// <remarks>
/// Three segments: what is read only, text, and data (the dynamic section, which the dynamic linker writes to, and the semaphores). In the
/// file they are on pages of their own, so that a tool that patches the text patches no other mapping of the same page. Addresses are equal to
/// offsets in the file: perf takes the one for the other. The note's section is not loaded, as those of compiled programs.
/// </remarks>
internal sealed class ImageWriter
{
    /// <summary>An exported symbol whose name cannot be that of a probe.</summary>
    public const string BaseSymbol = "_.stapsdt.base";

    private const int HeaderSize = 64;
    private const int SegmentHeaderSize = 56;
    private const int SegmentHeaders = 6;
    private const int StubSize = 16;
    private const int BuildIdSize = 20;

    private const uint Read = 4, Write = 2, Execute = 1;
    private const uint Progbits = 1, StringTable = 3, Hash = 5, Dynamic = 6;
    private const ulong Allocated = 2, AllocatedText = 6, AllocatedData = 3;
    private const byte GlobalObject = 0x11, GlobalFunction = 0x12;

    private readonly ElfMachine _machine;
    private readonly string _provider;
    private readonly ImageProbe[] _probes;
    private readonly StringTableBuilder _names = new();
    private readonly List<Section> _sections = [];
    private readonly Section _buildId, _hash, _symbols, _strings, _base, _text, _dynamic, _semaphores, _notes, _sectionNames;
    private readonly uint[] _symbolNames;

    private ImageWriter(ElfMachine machine, string provider, ImageProbe[] probes)
    {
        _machine = machine;
        _provider = provider;
        _probes = probes;
        _symbolNames = [_names.Add(""), _names.Add(BaseSymbol), .. probes.SelectMany(probe => new[] { _names.Add($"{provider}_{probe.Name}"), _names.Add($"{provider}_{probe.Name}_semaphore") })];
        int symbols = _symbolNames.Length;

        Add("", 0, 0, 1, 0, -1);
        _buildId = Add(".note.gnu.build-id", ElfSection.Note, Allocated, 4, 16 + BuildIdSize, 0);
        _hash = Add(".hash", Hash, Allocated, 8, (2 + symbols + symbols) * 4, 0, entrySize: 4, link: 3);
        _symbols = Add(".dynsym", ElfSection.DynamicSymbols, Allocated, 8, symbols * 24, 0, entrySize: 24, link: 4, info: 1);
        _strings = Add(".dynstr", StringTable, Allocated, 1, _names.Length, 0);
        _base = Add(".stapsdt.base", Progbits, Allocated, 1, 1, 0);
        _text = Add(".text", Progbits, AllocatedText, 16, probes.Length * StubSize, 1);
        _dynamic = Add(".dynamic", Dynamic, AllocatedData, 8, 6 * 16, 2, entrySize: 16, link: 4);
        _semaphores = Add(".probes", Progbits, AllocatedData, 2, probes.Length * 2, 2);
        _notes = Add(".note.stapsdt", ElfSection.Note, 0, 4, probes.Sum(NoteSize), -1);
        _sectionNames = Add(".shstrtab", StringTable, 0, 1, 0, -1);
        _sectionNames.Size = _sections.Sum(section => section.Name.Length + 1);
    }

    /// <summary>Makes the bytes of the library.</summary>
    public static byte[] Make(ElfMachine machine, string provider, ImageProbe[] probes, out ImageLayout layout)
    {
        ImageWriter writer = new(machine, provider, probes);
        int length = writer.PlaceSections();
        layout = new ImageLayout(
            writer._base.Address,
            [.. probes.Select((_, i) => writer._text.Address + (ulong)(i * StubSize))],
            [.. probes.Select((_, i) => writer._semaphores.Address + (ulong)(i * 2))]);
        byte[] bytes = new byte[length];
        writer.WriteHeaders(bytes);
        writer.WriteSymbols(bytes, layout);
        writer.WriteText(bytes);
        writer.WriteDynamic(bytes);
        writer.WriteNotes(bytes, layout);
        writer.WriteSectionHeaders(bytes);
        writer.WriteBuildId(bytes);
        return bytes;
    }

    private static int NoteDataSize(string provider, ImageProbe probe) => 24 + provider.Length + 1 + probe.Name.Length + 1 + probe.Arguments.Length + 1;

    private int NoteSize(ImageProbe probe) => 12 + 8 + Align(NoteDataSize(_provider, probe), 4);

    private static int Align(int value, int alignment) => (value + alignment - 1) & -alignment;

    /// <summary>The largest page of the architecture.</summary>
    private int PageSize => _machine == ElfMachine.Arm64 ? 0x10000 : 0x1000;

    private Section Add(string name, uint type, ulong flags, int alignment, int size, int segment, int entrySize = 0, uint link = 0, uint info = 0)
    {
        Section section = new(name, type, flags, alignment, segment, entrySize, link, info) { Size = size };
        _sections.Add(section);
        return section;
    }

    /// <summary>Gives every section its place; returns the length of the file.</summary>
    private int PlaceSections()
    {
        int offset = HeaderSize + (SegmentHeaders * SegmentHeaderSize);
        int segment = 0;
        foreach (Section section in _sections.Skip(1))
        {
            if (section.Segment > segment)
            {
                segment = section.Segment;
                offset = Align(offset, PageSize);
            }

            offset = Align(offset, section.Alignment);
            section.Offset = offset;
            section.Address = section.Segment < 0 ? 0 : (ulong)offset;
            offset += section.Size;
        }

        return Align(offset, 8) + (_sections.Count * 64);
    }

    private void WriteHeaders(byte[] bytes)
    {
        FieldWriter header = new(bytes);
        header.Bytes([0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        header.UInt16((ushort)ElfType.Dynamic);
        header.UInt16((ushort)_machine);
        header.UInt32(1);
        header.UInt64(0);
        header.UInt64(HeaderSize);
        header.UInt64((ulong)(bytes.Length - (_sections.Count * 64)));
        header.UInt32(0);
        header.UInt16(HeaderSize);
        header.UInt16(SegmentHeaderSize);
        header.UInt16(SegmentHeaders);
        header.UInt16(64);
        header.UInt16((ushort)_sections.Count);
        header.UInt16((ushort)(_sections.Count - 1));

        WriteSegment(ref header, ElfSegment.Load, Read, 0, 0, _base.Offset + _base.Size, PageSize);
        WriteSegment(ref header, ElfSegment.Load, Read | Execute, _text.Offset, _text.Address, _text.Size, PageSize);
        WriteSegment(ref header, ElfSegment.Load, Read | Write, _dynamic.Offset, _dynamic.Address, _semaphores.Offset + _semaphores.Size - _dynamic.Offset, PageSize);
        WriteSegment(ref header, ElfSegment.Dynamic, Read | Write, _dynamic.Offset, _dynamic.Address, _dynamic.Size, 8);
        WriteSegment(ref header, ElfSegment.Note, Read, _buildId.Offset, _buildId.Address, _buildId.Size, 4);
        const uint GnuStack = 0x6474e551;
        WriteSegment(ref header, GnuStack, Read | Write, 0, 0, 0, 16);
    }

    private static void WriteSegment(ref FieldWriter writer, uint type, uint flags, int offset, ulong address, int size, int alignment)
    {
        writer.UInt32(type);
        writer.UInt32(flags);
        writer.UInt64((ulong)offset);
        writer.UInt64(address);
        writer.UInt64(address);
        writer.UInt64((ulong)size);
        writer.UInt64((ulong)size);
        writer.UInt64((ulong)alignment);
    }

    private void WriteSymbols(byte[] bytes, ImageLayout layout)
    {
        _names.CopyTo(bytes.AsSpan(_strings.Offset));
        FieldWriter symbols = new(bytes.AsSpan(_symbols.Offset + 24));
        WriteSymbol(ref symbols, _symbolNames[1], GlobalObject, _base, layout.Base, 1);
        for (int i = 0; i < _probes.Length; i++)
        {
            WriteSymbol(ref symbols, _symbolNames[2 + (i * 2)], GlobalFunction, _text, layout.Functions[i], StubSize);
            WriteSymbol(ref symbols, _symbolNames[3 + (i * 2)], GlobalObject, _semaphores, layout.Semaphores[i], 2);
        }

        // The hash table of the System V ABI: counts, buckets, chains.
        int count = _symbolNames.Length;
        Span<byte> table = bytes.AsSpan(_hash.Offset, _hash.Size);
        BinaryPrimitives.WriteInt32LittleEndian(table, count);
        BinaryPrimitives.WriteInt32LittleEndian(table[4..], count);
        for (int i = 1; i < count; i++)
        {
            Span<byte> bucket = table[(8 + ((int)(HashOf(_names.Get(_symbolNames[i])) % (uint)count) * 4))..];
            Span<byte> chain = table[(8 + ((count + i) * 4))..];
            bucket[..4].CopyTo(chain);
            BinaryPrimitives.WriteInt32LittleEndian(bucket, i);
        }
    }

    private void WriteSymbol(ref FieldWriter writer, uint name, byte info, Section section, ulong address, int size)
    {
        writer.UInt32(name);
        writer.Bytes([info, 0]);
        writer.UInt16((ushort)_sections.IndexOf(section));
        writer.UInt64(address);
        writer.UInt64((ulong)size);
    }

    private static uint HashOf(ReadOnlySpan<byte> name)
    {
        uint hash = 0;
        foreach (byte c in name)
        {
            hash = (hash << 4) + c;
            uint high = hash & 0xf0000000;
            hash = (hash ^ (high >> 24)) & ~high;
        }

        return hash;
    }

    private void WriteText(byte[] bytes)
    {
        // nop; ret, and traps behind.
        byte[] stub = _machine == ElfMachine.X64
            ? [0x90, 0xc3, .. Enumerable.Repeat((byte)0xcc, StubSize - 2)]
            : [0x1f, 0x20, 0x03, 0xd5, 0xc0, 0x03, 0x5f, 0xd6, 0, 0, 0x20, 0xd4, 0, 0, 0x20, 0xd4];
        for (int i = 0; i < _probes.Length; i++)
        {
            stub.CopyTo(bytes, _text.Offset + (i * StubSize));
        }
    }

    private void WriteDynamic(byte[] bytes)
    {
        const ulong HashTag = 4, StringsTag = 5, SymbolsTag = 6, StringsSizeTag = 10, SymbolSizeTag = 11;
        FieldWriter dynamic = new(bytes.AsSpan(_dynamic.Offset));
        dynamic.UInt64(HashTag);
        dynamic.UInt64(_hash.Address);
        dynamic.UInt64(StringsTag);
        dynamic.UInt64(_strings.Address);
        dynamic.UInt64(SymbolsTag);
        dynamic.UInt64(_symbols.Address);
        dynamic.UInt64(StringsSizeTag);
        dynamic.UInt64((ulong)_strings.Size);
        dynamic.UInt64(SymbolSizeTag);
        dynamic.UInt64(24);
    }

    private void WriteNotes(byte[] bytes, ImageLayout layout)
    {
        FieldWriter notes = new(bytes.AsSpan(_notes.Offset));
        for (int i = 0; i < _probes.Length; i++)
        {
            int size = NoteDataSize(_provider, _probes[i]);
            notes.UInt32(8);
            notes.UInt32((uint)size);
            notes.UInt32(3);
            notes.Bytes("stapsdt\0"u8);
            notes.UInt64(layout.Functions[i]);
            notes.UInt64(layout.Base);
            notes.UInt64(layout.Semaphores[i]);
            notes.Text(_provider);
            notes.Text(_probes[i].Name);
            notes.Text(_probes[i].Arguments);
            notes.Skip(Align(size, 4) - size);
        }
    }

    private void WriteSectionHeaders(byte[] bytes)
    {
        FieldWriter names = new(bytes.AsSpan(_sectionNames.Offset));
        FieldWriter headers = new(bytes.AsSpan(bytes.Length - (_sections.Count * 64)));
        uint name = 0;
        foreach (Section section in _sections)
        {
            names.Text(section.Name);
            headers.UInt32(name);
            headers.UInt32(section.Type);
            headers.UInt64(section.Flags);
            headers.UInt64(section.Address);
            headers.UInt64((ulong)section.Offset);
            headers.UInt64((ulong)section.Size);
            headers.UInt32(section.Link);
            headers.UInt32(section.Info);
            headers.UInt64(section.Type == 0 ? 0 : (ulong)section.Alignment);
            headers.UInt64((ulong)section.EntrySize);
            name += (uint)section.Name.Length + 1;
        }
    }

    /// <summary>What tells this image from others: made of all its other bytes.</summary>
    private void WriteBuildId(byte[] bytes)
    {
        byte[] digest = SHA256.HashData(bytes);
        FieldWriter note = new(bytes.AsSpan(_buildId.Offset));
        note.UInt32(4);
        note.UInt32(BuildIdSize);
        note.UInt32(3);
        note.Bytes("GNU\0"u8);
        note.Bytes(digest.AsSpan(0, BuildIdSize));
    }

    private sealed class Section(string name, uint type, ulong flags, int alignment, int segment, int entrySize, uint link, uint info)
    {
        public string Name => name;

        public uint Type => type;

        public ulong Flags => flags;

        public int Alignment => alignment;

        /// <summary>0 to 2, or -1 if it is not loaded.</summary>
        public int Segment => segment;

        public int EntrySize => entrySize;

        public uint Link => link;

        public uint Info => info;

        public int Size { get; set; }

        public int Offset { get; set; }

        public ulong Address { get; set; }
    }
}
