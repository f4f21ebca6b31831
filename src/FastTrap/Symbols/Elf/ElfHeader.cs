using System.Buffers.Binary;
using FastTrap.Native;

namespace FastTrap.Symbols;

/// <summary>The ELF header with the tables it points to.</summary>
internal readonly struct ElfHeader
{
    private const int HeaderSize = 64;
    private const int SegmentSize = 56;
    private const int SectionSize = 64;
    private const ushort ExtendedCount = 0xffff;
    private const long MaxSectionNameBytes = 32L << 20;

    private ElfHeader(ElfMachine machine, ElfType type, ulong entryPoint, ElfSegment[] segments, ElfSection[] sections, byte[] sectionNames)
    {
        Machine = machine;
        Type = type;
        EntryPoint = entryPoint;
        Segments = segments;
        Sections = sections;
        SectionNames = sectionNames;
    }

    public ElfMachine Machine { get; }

    public ElfType Type { get; }

    public ulong EntryPoint { get; }

    public ElfSegment[] Segments { get; }

    public ElfSection[] Sections { get; }

    public byte[] SectionNames { get; }

    /// <summary>Reads and checks. The section table is given up without an error when it is damaged.</summary>
    /// <exception cref="ElfFormatException">Not a usable ELF file.</exception>
    public static ElfHeader Read(TargetFile file, string path, ElfLimits limits)
    {
        ElfProblem problem = ElfFile.Identify(file, out ushort machine);
        if (problem != ElfProblem.None)
        {
            throw new ElfFormatException(problem, path, Describe(problem, machine));
        }

        Span<byte> header = stackalloc byte[HeaderSize];
        ElfFile.ReadFully(file, path, 0, header, "the ELF header");
        ElfType type = (ElfType)BinaryPrimitives.ReadUInt16LittleEndian(header[16..]);
        ulong entry = BinaryPrimitives.ReadUInt64LittleEndian(header[24..]);
        ulong segmentOffset = BinaryPrimitives.ReadUInt64LittleEndian(header[32..]);
        ulong sectionOffset = BinaryPrimitives.ReadUInt64LittleEndian(header[40..]);
        ushort segmentEntrySize = BinaryPrimitives.ReadUInt16LittleEndian(header[54..]);
        uint segmentCount = BinaryPrimitives.ReadUInt16LittleEndian(header[56..]);
        ushort sectionEntrySize = BinaryPrimitives.ReadUInt16LittleEndian(header[58..]);
        uint sectionCount = BinaryPrimitives.ReadUInt16LittleEndian(header[60..]);
        uint namesIndex = BinaryPrimitives.ReadUInt16LittleEndian(header[62..]);

        // Counts which do not fit into 16 bits stand in section 0.
        ElfSection first = default;
        byte[] firstBytes = [];
        bool hasSections = sectionOffset != 0 && sectionEntrySize == SectionSize
            && TryReadTable(file, sectionOffset, SectionSize, out firstBytes);
        if (hasSections)
        {
            first = ParseSection(firstBytes);
            sectionCount = sectionCount == 0 ? (uint)Math.Min(first.Size, uint.MaxValue) : sectionCount;
            namesIndex = namesIndex == ExtendedCount ? first.Link : namesIndex;
        }

        if (segmentCount == ExtendedCount && hasSections)
        {
            segmentCount = first.Info;
        }

        ElfSegment[] segments = ReadSegments(file, path, limits, segmentOffset, segmentEntrySize, segmentCount);
        ElfSection[] sections = [];
        byte[] names = [];
        if (hasSections && sectionCount <= (uint)limits.MaxSections
            && TryReadTable(file, sectionOffset, (ulong)sectionCount * SectionSize, out byte[] table))
        {
            sections = new ElfSection[sectionCount];
            for (int i = 0; i < sections.Length; i++)
            {
                sections[i] = ParseSection(table.AsSpan(i * SectionSize));
            }

            if (namesIndex < (uint)sections.Length && sections[namesIndex].Size <= MaxSectionNameBytes)
            {
                TryReadTable(file, sections[namesIndex].FileOffset, sections[namesIndex].Size, out names);
            }
        }

        return new ElfHeader((ElfMachine)machine, type, entry, segments, sections, names);
    }

    private static string Describe(ElfProblem problem, ushort machine) => problem switch
    {
        ElfProblem.NotElf => "not an ELF file",
        ElfProblem.Elf32 => "a 32-bit program or library; only 64-bit ones can be probed",
        ElfProblem.BigEndian => "big-endian; only little-endian x86-64 and AArch64 can be probed",
        ElfProblem.UnsupportedMachine => $"built for machine {machine}; only x86-64 (62) and AArch64 (183) can be probed",
        ElfProblem.Truncated => "ends within the ELF header",
        _ => "the ELF header is malformed",
    };

    private static ElfSegment[] ReadSegments(
        TargetFile file, string path, ElfLimits limits, ulong offset, ushort entrySize, uint count)
    {
        if (count == 0)
        {
            return [];
        }

        if (entrySize != SegmentSize)
        {
            throw new ElfFormatException(ElfProblem.Malformed, path, $"program headers of {entrySize} bytes instead of {SegmentSize}");
        }

        if (count > (uint)limits.MaxSegments)
        {
            throw new ElfFormatException(ElfProblem.LimitExceeded, path, $"{count} program headers; {limits.MaxSegments} are the limit");
        }

        if (!TryReadTable(file, offset, (ulong)count * SegmentSize, out byte[] table))
        {
            throw new ElfFormatException(ElfProblem.Truncated, path, $"{count} program headers at {offset} reach past the end of the file");
        }

        ElfSegment[] segments = new ElfSegment[count];
        for (int i = 0; i < segments.Length; i++)
        {
            ReadOnlySpan<byte> entry = table.AsSpan(i * SegmentSize, SegmentSize);
            segments[i] = new ElfSegment(
                BinaryPrimitives.ReadUInt32LittleEndian(entry),
                BinaryPrimitives.ReadUInt32LittleEndian(entry[4..]),
                BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]),
                BinaryPrimitives.ReadUInt64LittleEndian(entry[16..]),
                BinaryPrimitives.ReadUInt64LittleEndian(entry[32..]),
                BinaryPrimitives.ReadUInt64LittleEndian(entry[40..]),
                BinaryPrimitives.ReadUInt64LittleEndian(entry[48..]));
        }

        return segments;
    }

    private static ElfSection ParseSection(ReadOnlySpan<byte> entry) => new(
        BinaryPrimitives.ReadUInt32LittleEndian(entry),
        BinaryPrimitives.ReadUInt32LittleEndian(entry[4..]),
        BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]),
        BinaryPrimitives.ReadUInt64LittleEndian(entry[16..]),
        BinaryPrimitives.ReadUInt64LittleEndian(entry[24..]),
        BinaryPrimitives.ReadUInt64LittleEndian(entry[32..]),
        BinaryPrimitives.ReadUInt32LittleEndian(entry[40..]),
        BinaryPrimitives.ReadUInt32LittleEndian(entry[44..]),
        BinaryPrimitives.ReadUInt64LittleEndian(entry[56..]));

    private static bool TryReadTable(TargetFile file, ulong offset, ulong length, out byte[] bytes)
    {
        bytes = [];
        ulong fileLength = (ulong)Math.Max(0, file.Length);
        if (offset > fileLength || length > fileLength - offset || length > int.MaxValue / 2)
        {
            return false;
        }

        byte[] buffer = new byte[(int)length];
        int done = 0;
        while (done < buffer.Length)
        {
            int count = file.Read((long)offset + done, buffer.AsSpan(done));
            if (count <= 0)
            {
                return false;
            }

            done += count;
        }

        bytes = buffer;
        return true;
    }
}
