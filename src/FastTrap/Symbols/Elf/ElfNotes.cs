using System.Buffers.Binary;

namespace FastTrap.Symbols;

/// <summary>The GNU build id, from the notes of a file.</summary>
internal static class ElfNotes
{
    private const uint GnuBuildId = 3;
    private const ulong MaxNoteBytes = 1 << 20;
    private const int MaxBuildIdBytes = 64;
    private const int MaxNotes = 64;

    /// <summary>The build id from the note sections, or from the note segments; empty when there is none.</summary>
    public static byte[] ReadBuildId(ElfFile elf)
    {
        int budget = MaxNotes;
        foreach (ElfSection section in elf.Sections)
        {
            if (section.Type == ElfSection.Note && budget-- > 0 && TryRead(elf, section.FileOffset, section.Size, out byte[] id))
            {
                return id;
            }
        }

        foreach (ElfSegment segment in elf.Segments)
        {
            if (segment.Type == ElfSegment.Note && budget-- > 0 && TryRead(elf, segment.FileOffset, segment.FileSize, out byte[] id))
            {
                return id;
            }
        }

        return [];
    }

    private static bool TryRead(ElfFile elf, ulong fileOffset, ulong size, out byte[] id)
    {
        id = [];

        // Debug files keep the note headers of what was stripped from them, so a range outside the file is no error here.
        if (fileOffset > (ulong)elf.Length || size > (ulong)elf.Length - fileOffset || size > MaxNoteBytes)
        {
            return false;
        }

        return TryFindBuildId(elf.ReadRange(fileOffset, size, "a note"), out id);
    }

    /// <summary>Finds the build id in the bytes of a note section.</summary>
    public static bool TryFindBuildId(ReadOnlySpan<byte> notes, out byte[] id)
    {
        ElfNoteReader reader = new(notes);
        while (reader.TryRead())
        {
            if (reader.Type == GnuBuildId && reader.Content.Length is > 0 and <= MaxBuildIdBytes && reader.Name.SequenceEqual("GNU\0"u8))
            {
                id = reader.Content.ToArray();
                return true;
            }
        }

        id = [];
        return false;
    }
}

/// <summary>Walks over the notes of a section or segment, as far as they are whole.</summary>
internal ref struct ElfNoteReader(ReadOnlySpan<byte> notes)
{
    private const int HeaderLength = 12;

    private readonly ReadOnlySpan<byte> _notes = notes;
    private int _next;

    /// <summary>Where the note begins, in bytes from the start.</summary>
    public int Offset { get; private set; }

    public uint Type { get; private set; }

    /// <summary>The owner's name with its zero byte.</summary>
    public ReadOnlySpan<byte> Name { get; private set; }

    public ReadOnlySpan<byte> Content { get; private set; }

    /// <summary>Whether bytes are left that are no whole note.</summary>
    public readonly bool IsCutShort => _next < _notes.Length;

    /// <summary>Goes to the next note; false at the end, or where the bytes end inside of one.</summary>
    public bool TryRead()
    {
        ReadOnlySpan<byte> rest = _notes[_next..];
        if (rest.Length < HeaderLength)
        {
            return false;
        }

        uint nameSize = BinaryPrimitives.ReadUInt32LittleEndian(rest);
        uint contentSize = BinaryPrimitives.ReadUInt32LittleEndian(rest[4..]);
        ulong contentOffset = HeaderLength + (((ulong)nameSize + 3) & ~3UL);
        if (contentOffset + contentSize > (ulong)rest.Length)
        {
            return false;
        }

        Offset = _next;
        Type = BinaryPrimitives.ReadUInt32LittleEndian(rest[8..]);
        Name = rest.Slice(HeaderLength, (int)nameSize);
        Content = rest.Slice((int)contentOffset, (int)contentSize);

        // The last one need not be padded.
        _next += (int)Math.Min(contentOffset + (((ulong)contentSize + 3) & ~3UL), (ulong)rest.Length);
        return true;
    }
}
