using System.Buffers.Binary;

namespace FastTrap.Symbols;

/// <summary>Reads ELF notes: so far the GNU build id.</summary>
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
        id = [];
        while (notes.Length >= 12)
        {
            uint nameSize = BinaryPrimitives.ReadUInt32LittleEndian(notes);
            uint dataSize = BinaryPrimitives.ReadUInt32LittleEndian(notes[4..]);
            uint type = BinaryPrimitives.ReadUInt32LittleEndian(notes[8..]);
            ulong dataOffset = 12 + (((ulong)nameSize + 3) & ~3UL);
            ulong next = dataOffset + (((ulong)dataSize + 3) & ~3UL);
            if (dataOffset + dataSize > (ulong)notes.Length)
            {
                return false;
            }

            if (type == GnuBuildId && nameSize == 4 && dataSize is > 0 and <= MaxBuildIdBytes
                && notes.Slice(12, 4).SequenceEqual("GNU\0"u8))
            {
                id = notes.Slice((int)dataOffset, (int)dataSize).ToArray();
                return true;
            }

            if (next >= (ulong)notes.Length)
            {
                return false;
            }

            notes = notes[(int)next..];
        }

        return false;
    }
}
