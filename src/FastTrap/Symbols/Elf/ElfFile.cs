using System.Buffers.Binary;
using System.Text;
using FastTrap.Native;

namespace FastTrap.Symbols;

/// <summary>
/// A 64-bit little-endian ELF file for x86-64 or AArch64: headers at once, the rest when asked for. Bytes are hostile: every offset and
/// count is checked against the file's length, and everything that is wrong becomes an <see cref="ElfFormatException"/>.
/// </summary>
/// <remarks>
/// Any thread may read. Section headers are a convenience of linkers, which loaders ignore: when they are damaged they count as absent,
/// and what is needed is found through the program headers.
/// </remarks>
internal sealed class ElfFile : IDisposable
{
    private readonly TargetFile _file;
    private readonly ElfSegment[] _segments;
    private readonly ElfSection[] _sections;
    private readonly byte[] _sectionNames;
    private readonly Lazy<ElfDynamic> _dynamic;
    private readonly Lazy<byte[]> _buildId;
    private readonly Lazy<string?> _interpreter;
    private readonly Lazy<(string? Name, uint Crc)> _debugLink;

    private ElfFile(TargetFile file, string path, ElfLimits limits, in ElfHeader header)
    {
        _file = file;
        Path = path;
        Limits = limits;
        Identity = file.Identity;
        Length = file.Length;
        Machine = header.Machine;
        Type = header.Type;
        EntryPoint = header.EntryPoint;
        _segments = header.Segments;
        _sections = header.Sections;
        _sectionNames = header.SectionNames;
        _dynamic = new(() => ElfDynamic.Read(this));
        _buildId = new(() => ElfNotes.ReadBuildId(this));
        _interpreter = new(ReadInterpreter);
        _debugLink = new(ReadDebugLink);
    }

    /// <summary>The path it was opened by, for messages.</summary>
    public string Path { get; }

    /// <summary>What the file was when it was opened.</summary>
    public FileIdentity Identity { get; }

    /// <summary>Bytes.</summary>
    public long Length { get; }

    /// <summary>How much of the file is believed.</summary>
    public ElfLimits Limits { get; }

    /// <summary>The architecture.</summary>
    public ElfMachine Machine { get; }

    /// <summary>Program, library, object or core.</summary>
    public ElfType Type { get; }

    /// <summary>The link-time address of the first instruction; 0 if there is none.</summary>
    public ulong EntryPoint { get; }

    /// <summary>All program headers.</summary>
    public ReadOnlySpan<ElfSegment> Segments => _segments;

    /// <summary>All section headers; empty when there are none or the table is damaged.</summary>
    public ReadOnlySpan<ElfSection> Sections => _sections;

    /// <summary>What the PT_DYNAMIC segment says; all zero when there is none.</summary>
    public ElfDynamic Dynamic => _dynamic.Value;

    /// <summary>The linker's identification of the contents; empty when there is none.</summary>
    public ReadOnlySpan<byte> BuildId => _buildId.Value;

    /// <summary>The program interpreter (PT_INTERP), or null.</summary>
    public string? Interpreter => _interpreter.Value;

    /// <summary>DT_SONAME, or null.</summary>
    public string? Soname => Dynamic.Soname;

    /// <summary>The file name in .gnu_debuglink, or null.</summary>
    public string? DebugLinkName => _debugLink.Value.Name;

    /// <summary>The CRC-32 of the file which .gnu_debuglink names.</summary>
    public uint DebugLinkCrc => _debugLink.Value.Crc;

    /// <summary>Whether it may be loaded at any address.</summary>
    public bool IsPositionIndependent => Type == ElfType.Dynamic;

    /// <summary>Whether it is a position-independent program, not a library.</summary>
    public bool IsPie => Type == ElfType.Dynamic && (Dynamic.IsMarkedPie || (Interpreter != null && Soname == null));

    /// <summary>
    /// Tells without an exception what a file is. <see cref="ElfProblem.None"/> promises only that magic, class and machine are right.
    /// </summary>
    public static ElfProblem Identify(TargetFile file, out ushort machine)
    {
        Span<byte> start = stackalloc byte[20];
        int length = file.Read(0, start);
        machine = 0;
        if (length < 4 || !start[..4].SequenceEqual("\u007fELF"u8))
        {
            return ElfProblem.NotElf;
        }

        if (length < 20)
        {
            return ElfProblem.Truncated;
        }

        bool bigEndian = start[5] == 2;
        machine = bigEndian ? BinaryPrimitives.ReadUInt16BigEndian(start[18..]) : BinaryPrimitives.ReadUInt16LittleEndian(start[18..]);
        return (start[4], start[5], machine) switch
        {
            (1, _, _) => ElfProblem.Elf32,
            (2, 2, _) => ElfProblem.BigEndian,
            (2, 1, (ushort)ElfMachine.X64 or (ushort)ElfMachine.Arm64) => ElfProblem.None,
            (2, 1, _) => ElfProblem.UnsupportedMachine,
            _ => ElfProblem.Malformed,
        };
    }

    /// <summary>Reads the headers of a file, which belongs to the result from then on (on an exception it stays the caller's).</summary>
    /// <exception cref="ElfFormatException">The file is not one that can be used.</exception>
    public static ElfFile Open(TargetFile file, string path, ElfLimits? limits = null)
    {
        limits ??= ElfLimits.Default;
        ElfHeader header = ElfHeader.Read(file, path, limits);
        return new ElfFile(file, path, limits, header);
    }

    /// <summary>Finds a section by its name.</summary>
    public bool TryGetSection(ReadOnlySpan<byte> name, out ElfSection section)
    {
        foreach (ElfSection candidate in _sections)
        {
            if (SectionName(candidate).SequenceEqual(name))
            {
                section = candidate;
                return true;
            }
        }

        section = default;
        return false;
    }

    /// <summary>Finds the first section of a type.</summary>
    public bool TryGetSection(uint type, out ElfSection section)
    {
        foreach (ElfSection candidate in _sections)
        {
            if (candidate.Type == type)
            {
                section = candidate;
                return true;
            }
        }

        section = default;
        return false;
    }

    /// <summary>A section's name as UTF-8; empty when its offset is wrong.</summary>
    public ReadOnlySpan<byte> SectionName(in ElfSection section)
    {
        if (section.NameOffset >= (uint)_sectionNames.Length)
        {
            return default;
        }

        ReadOnlySpan<byte> rest = _sectionNames.AsSpan((int)section.NameOffset);
        int end = rest.IndexOf((byte)0);
        return end < 0 ? default : rest[..end];
    }

    /// <summary>Where the file holds the byte at a link-time address, and how many bytes of its segment follow in the file.</summary>
    public bool TryGetFileOffset(ulong address, out ulong fileOffset, out ulong available)
    {
        foreach (ElfSegment segment in _segments)
        {
            ulong inside = address - segment.Address;
            if (segment.Type != ElfSegment.Load || inside >= segment.FileSize)
            {
                continue;
            }

            ulong offset = segment.FileOffset + inside;
            if (offset < segment.FileOffset || offset >= (ulong)Length)
            {
                continue;
            }

            fileOffset = offset;
            available = Math.Min(segment.FileSize - inside, (ulong)Length - offset);
            return true;
        }

        fileOffset = 0;
        available = 0;
        return false;
    }

    /// <summary>
    /// Reads the file's bytes for a link-time address. Returns bytes read: fewer at the end of the segment, 0 outside all of them.
    /// </summary>
    public int ReadAtAddress(ulong address, Span<byte> buffer)
    {
        if (!TryGetFileOffset(address, out ulong offset, out ulong available))
        {
            return 0;
        }

        int wanted = (int)Math.Min((ulong)buffer.Length, available);
        return Math.Max(0, _file.Read((long)offset, buffer[..wanted]));
    }

    /// <summary>The executable segment that covers a link-time address.</summary>
    public bool TryGetExecutableSegment(ulong address, out ElfSegment segment)
    {
        foreach (ElfSegment candidate in _segments)
        {
            if (candidate.Type == ElfSegment.Load && candidate.IsExecutable && candidate.Contains(address))
            {
                segment = candidate;
                return true;
            }
        }

        segment = default;
        return false;
    }

    /// <summary>Checks that a range lies in the file and within the limits, and gives its length.</summary>
    /// <exception cref="ElfFormatException">It does not.</exception>
    public int CheckRange(ulong fileOffset, ulong length, string what)
    {
        if (fileOffset > (ulong)Length || length > (ulong)Length - fileOffset)
        {
            throw Fail(ElfProblem.Truncated, $"{what} ({length} bytes at {fileOffset}) reaches past the end of the file ({Length} bytes)");
        }

        if (length > (ulong)Limits.MaxTableBytes)
        {
            throw Fail(ElfProblem.LimitExceeded, $"{what} has {length} bytes; {Limits.MaxTableBytes} are the limit");
        }

        return (int)length;
    }

    /// <summary>Fills a buffer from the file.</summary>
    /// <exception cref="ElfFormatException">The file ends before.</exception>
    public void ReadExactly(ulong fileOffset, Span<byte> buffer, string what)
    {
        CheckRange(fileOffset, (ulong)buffer.Length, what);
        ReadFully(_file, Path, (long)fileOffset, buffer, what);
    }

    /// <summary>Reads a range into a new array.</summary>
    /// <exception cref="ElfFormatException">It is not in the file, or larger than the limits.</exception>
    public byte[] ReadRange(ulong fileOffset, ulong length, string what)
    {
        byte[] bytes = new byte[CheckRange(fileOffset, length, what)];
        ReadFully(_file, Path, (long)fileOffset, bytes, what);
        return bytes;
    }

    /// <summary>Reads a table at a link-time address into a new array.</summary>
    /// <exception cref="ElfFormatException">It is not in one segment of the file, or larger than the limits.</exception>
    public byte[] ReadRangeAtAddress(ulong address, ulong length, string what)
    {
        if (!TryGetFileOffset(address, out ulong offset, out ulong available) || length > available)
        {
            throw Fail(ElfProblem.Truncated, $"{what} ({length} bytes at address 0x{address:x}) is not in the file");
        }

        return ReadRange(offset, length, what);
    }

    /// <summary>An exception about this file.</summary>
    public ElfFormatException Fail(ElfProblem problem, string detail) => new(problem, Path, detail);

    /// <summary>CRC-32 (IEEE) of the whole file, as .gnu_debuglink uses it.</summary>
    public uint ComputeCrc() => Crc32.OfFile(_file);

    public void Dispose() => _file.Dispose();

    internal static void ReadFully(TargetFile file, string path, long fileOffset, Span<byte> buffer, string what)
    {
        int done = 0;
        while (done < buffer.Length)
        {
            int count = file.Read(fileOffset + done, buffer[done..]);
            if (count <= 0)
            {
                throw new ElfFormatException(
                    ElfProblem.Truncated, path, $"{what} cannot be read at {fileOffset + done}: the file was cut short");
            }

            done += count;
        }
    }

    private string? ReadInterpreter()
    {
        foreach (ElfSegment segment in _segments)
        {
            if (segment.Type == ElfSegment.Interpreter)
            {
                byte[] bytes = ReadRange(segment.FileOffset, Math.Min(segment.FileSize, 4096), "the interpreter's path");
                int end = Array.IndexOf(bytes, (byte)0);
                return Encoding.UTF8.GetString(bytes, 0, end < 0 ? bytes.Length : end);
            }
        }

        return null;
    }

    private (string? Name, uint Crc) ReadDebugLink()
    {
        if (!TryGetSection(".gnu_debuglink"u8, out ElfSection section) || section.Type == ElfSection.NoBits)
        {
            return default;
        }

        // The link is a hint for finding names; a broken one counts as none.
        ulong size = Math.Min(section.Size, 8192);
        if (section.FileOffset > (ulong)Length || size > (ulong)Length - section.FileOffset)
        {
            return default;
        }

        byte[] bytes = ReadRange(section.FileOffset, size, ".gnu_debuglink");
        int end = Array.IndexOf(bytes, (byte)0);
        int crcOffset = (end + 4) & ~3;
        if (end <= 0 || crcOffset + 4 > bytes.Length)
        {
            return default;
        }

        return (Encoding.UTF8.GetString(bytes, 0, end), BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(crcOffset)));
    }
}
