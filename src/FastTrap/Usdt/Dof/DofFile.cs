using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.CompilerServices;

namespace FastTrap.Usdt;

/// <summary>
/// The header and the sections of one DOF object, all of their bounds checked: what is read through this class lies within its section. Not
/// thread-safe; made for one reading.
/// </summary>
/// <remarks>
/// It believes less than the kernels which take DOF do: sections must not overlap, so that no byte has two meanings and no relocation
/// changes what was checked already. Source: the format of sys/dtrace.h, the checks of dtrace_dof_slurp.
/// </remarks>
internal sealed class DofFile
{
    /// <summary>Bytes of the header.</summary>
    public const int HeaderSize = 64;

    /// <summary>Larger objects are refused (the kernels take 8 MiB at most).</summary>
    public const int MaxSize = 8 << 20;

    private const int MaxSections = 1 << 16;
    private const int SectionSize = 32;
    private const byte Lp64 = 2, LittleEndian = 1, DifVersion = 2, Registers = 8;

    private readonly byte[] _bytes;
    private readonly DofSection[] _sections;

    private DofFile(byte[] bytes, int version, DofSection[] sections)
    {
        _bytes = bytes;
        Version = version;
        _sections = sections;
    }

    /// <summary>1 or 2.</summary>
    public int Version { get; }

    /// <summary>Bytes of the loaded part.</summary>
    public int Length => _bytes.Length;

    /// <summary>All sections; those that are not loaded have no bytes.</summary>
    public ReadOnlySpan<DofSection> Sections => _sections;

    /// <summary>Bytes of the whole object that begins here, loaded or not; used to find one that follows.</summary>
    /// <exception cref="DofFormatException">No header, or more than there is.</exception>
    public static int Measure(ReadOnlySpan<byte> bytes)
    {
        CheckIdentity(bytes);
        ulong loaded = BinaryPrimitives.ReadUInt64LittleEndian(bytes[40..]);
        ulong whole = BinaryPrimitives.ReadUInt64LittleEndian(bytes[48..]);
        Require(loaded >= HeaderSize && loaded <= (ulong)bytes.Length && whole <= (ulong)bytes.Length, DofProblem.Truncated, -1, "it is longer than what is there");
        Require(loaded <= whole, DofProblem.Truncated, -1, "its loaded part is longer than the whole");
        Require(loaded <= MaxSize, DofProblem.LimitExceeded, -1, $"{loaded} bytes; {MaxSize} are the limit");
        return (int)whole;
    }

    /// <summary>Reads the header and the section table.</summary>
    /// <exception cref="DofFormatException">It is not as it must be.</exception>
    public static DofFile Open(ReadOnlySpan<byte> bytes)
    {
        Measure(bytes);
        int length = (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes[40..]);
        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(bytes[16..]);
        uint headerSize = BinaryPrimitives.ReadUInt32LittleEndian(bytes[20..]);
        uint entry = BinaryPrimitives.ReadUInt32LittleEndian(bytes[24..]);
        uint count = BinaryPrimitives.ReadUInt32LittleEndian(bytes[28..]);
        ulong table = BinaryPrimitives.ReadUInt64LittleEndian(bytes[32..]);
        Require(flags == 0, DofProblem.ReservedBits, -1, "unknown flags in the header");
        Require(headerSize == HeaderSize, DofProblem.WrongEntrySize, -1, $"a header of {headerSize} bytes instead of {HeaderSize}");
        Require(entry is >= SectionSize and <= 4096, DofProblem.WrongEntrySize, -1, $"section headers of {entry} bytes");
        Require(entry % 8 == 0 && table % 8 == 0, DofProblem.Misaligned, -1, "the section headers are not aligned");
        Require(count <= MaxSections, DofProblem.LimitExceeded, -1, $"{count} sections; {MaxSections} are the limit");
        Require(table <= (ulong)length && (ulong)entry * count <= (ulong)length - table, DofProblem.Truncated, -1, "the section headers reach past the end");

        DofSection[] sections = new DofSection[count];
        for (int i = 0; i < sections.Length; i++)
        {
            sections[i] = ReadSection(bytes.Slice((int)table + (i * (int)entry), SectionSize), i, length);
        }

        CheckOverlaps(sections, (int)table, (int)(entry * count));
        DofFile file = new(bytes[..length].ToArray(), bytes[6], sections);
        foreach (DofSection section in sections)
        {
            if (section.Type == DofSectionType.StringTable && section.IsLoaded)
            {
                Require(section.Size > 0 && file.Bytes(section)[^1] == 0, DofProblem.BadString, section.Index, "the string table does not end with a zero");
            }
        }

        return file;
    }

    /// <summary>Fails unless a condition holds.</summary>
    /// <exception cref="DofFormatException">It does not.</exception>
    public static void Require(bool condition, DofProblem problem, int section, string detail)
    {
        if (!condition)
        {
            throw new DofFormatException(problem, section, detail);
        }
    }

    /// <summary>As the other, with a text that is only made when it is needed.</summary>
    /// <exception cref="DofFormatException">It does not hold.</exception>
    public static void Require(bool condition, DofProblem problem, int section, [InterpolatedStringHandlerArgument(nameof(condition))] ref Detail detail)
    {
        if (!condition)
        {
            throw new DofFormatException(problem, section, detail.ToString());
        }
    }

    /// <summary>A section by reference; it must be of the type, or any if that is <see cref="DofSectionType.None"/>, and loaded.</summary>
    /// <exception cref="DofFormatException">There is none.</exception>
    public DofSection Get(uint index, DofSectionType type, int referrer)
    {
        Require(index < (uint)_sections.Length, DofProblem.WrongSection, referrer, "it refers to a section that is not there");
        DofSection section = _sections[index];
        Require(section.IsLoaded && (type == DofSectionType.None || section.Type == type), DofProblem.WrongSection, referrer, $"it refers to section {index} as to one of another type");
        return section;
    }

    /// <summary>The bytes of a loaded section.</summary>
    public Span<byte> Bytes(DofSection section) => _bytes.AsSpan(section.Offset, section.Size);

    /// <summary>Checks that a section is a table of entries at least so long, at the alignment of their fields.</summary>
    /// <exception cref="DofFormatException">It is not.</exception>
    public static void RequireTable(DofSection section, int entrySize, int alignment)
    {
        Require(section.EntrySize >= (uint)entrySize && section.EntrySize % (uint)alignment == 0, DofProblem.WrongEntrySize, section.Index, $"entries of {section.EntrySize} bytes");
        Require(section.Size % section.EntrySize == 0, DofProblem.WrongEntrySize, section.Index, "it holds no whole number of entries");
        RequireAligned(section, alignment);
    }

    /// <summary>Checks where a section stands.</summary>
    /// <exception cref="DofFormatException">It is not aligned.</exception>
    public static void RequireAligned(DofSection section, int alignment) =>
        Require(section.Offset % alignment == 0, DofProblem.Misaligned, section.Index, $"it does not stand at a multiple of {alignment}");

    private static void CheckIdentity(ReadOnlySpan<byte> bytes)
    {
        Require(bytes.Length >= 4 && bytes[..4].SequenceEqual("\u007fDOF"u8), DofProblem.NotDof, -1, "it does not begin as DOF does");
        Require(bytes.Length >= HeaderSize, DofProblem.Truncated, -1, "it ends within its header");
        Require(bytes[4] == Lp64, DofProblem.WrongModel, -1, "it is not for 64-bit programs");
        Require(bytes[5] == LittleEndian, DofProblem.WrongEncoding, -1, "it is not little-endian");
        Require(bytes[6] is 1 or 2, DofProblem.UnsupportedVersion, -1, $"version {bytes[6]} of the format");
        Require(bytes[7] == DifVersion, DofProblem.UnsupportedVersion, -1, $"version {bytes[7]} of the instruction set");
        Require(bytes[8] <= Registers && bytes[9] <= Registers, DofProblem.UnsupportedVersion, -1, "more registers than there are");
        Require(bytes[10..16].IndexOfAnyExcept((byte)0) < 0, DofProblem.ReservedBits, -1, "unknown identification bytes");
    }

    private static DofSection ReadSection(ReadOnlySpan<byte> entry, int index, int length)
    {
        uint type = BinaryPrimitives.ReadUInt32LittleEndian(entry);
        uint alignment = BinaryPrimitives.ReadUInt32LittleEndian(entry[4..]);
        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(entry[8..]);
        uint entrySize = BinaryPrimitives.ReadUInt32LittleEndian(entry[12..]);
        ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(entry[16..]);
        ulong size = BinaryPrimitives.ReadUInt64LittleEndian(entry[24..]);
        bool isLoaded = (flags & 1) != 0;
        Require(flags <= 1, DofProblem.ReservedBits, index, "unknown flags");
        Require(isLoaded || !DofSection.MustBeLoaded(type), DofProblem.NotLoaded, index, "it is not marked to be loaded");
        if (!isLoaded)
        {
            return new DofSection(index, (DofSectionType)type, alignment, flags, entrySize, 0, 0);
        }

        Require((alignment & (alignment - 1)) == 0, DofProblem.Misaligned, index, $"an alignment of {alignment}");
        Require(alignment == 0 || (offset & (alignment - 1)) == 0, DofProblem.Misaligned, index, $"it does not stand at a multiple of {alignment}");
        Require(offset <= (ulong)length && size <= (ulong)length - offset, DofProblem.Truncated, index, "it reaches past the end");
        return new DofSection(index, (DofSectionType)type, alignment, flags, entrySize, (int)offset, (int)size);
    }

    private static void CheckOverlaps(DofSection[] sections, int table, int tableSize)
    {
        (int Offset, int Size, int Index)[] ranges =
        [
            (0, HeaderSize, -1), (table, tableSize, -1),
            .. sections.Where(section => section.Size > 0).Select(section => (section.Offset, section.Size, section.Index)),
        ];
        Array.Sort(ranges);
        int end = 0;
        int before = -1;
        foreach ((int offset, int size, int index) in ranges)
        {
            Require(offset >= end || size == 0, DofProblem.Overlap, Math.Max(index, before), "its bytes belong to something else as well");
            (end, before) = (Math.Max(end, offset + size), index);
        }
    }

    /// <summary>What is wrong, made only if something is.</summary>
    [InterpolatedStringHandler]
    internal ref struct Detail
    {
        private DefaultInterpolatedStringHandler _text;

        public Detail(int literalLength, int formattedCount, bool condition, out bool isNeeded)
        {
            isNeeded = !condition;
            _text = isNeeded ? new DefaultInterpolatedStringHandler(literalLength, formattedCount, CultureInfo.InvariantCulture) : default;
        }

        public void AppendLiteral(string text) => _text.AppendLiteral(text);

        public void AppendFormatted<T>(T value, string? format = null) => _text.AppendFormatted(value, format);

        public override string ToString() => _text.ToStringAndClear();
    }
}
