using System.Buffers.Binary;

namespace FastTrap.Symbols;

/// <summary>
/// Finds the addresses of code that stand in a module's data: those that the dynamic linker makes (relative relocations), and, in a program that is loaded
/// where it was linked, every word that may be one.
/// </summary>
internal static class CodePointers
{
    private const int RelaSize = 24;

    /// <summary>Adds to <paramref name="found"/> what lies in a range of link-time addresses; more than once, and in any order.</summary>
    /// <exception cref="ElfFormatException">The relocation tables are malformed.</exception>
    public static void Read(ElfFile elf, ulong start, ulong length, List<ulong> found)
    {
        ElfDynamic dynamic = elf.Dynamic;
        if (dynamic.Rela != 0)
        {
            byte[] table = elf.ReadRangeAtAddress(dynamic.Rela, dynamic.RelaSize, "the relocation table");
            for (int at = 0; at + RelaSize <= table.Length; at += RelaSize)
            {
                // A symbol's value may be added; what it is added to then is small, and what comes of it is a symbol.
                ulong addend = BinaryPrimitives.ReadUInt64LittleEndian(table.AsSpan(at + 16));
                if (addend - start < length)
                {
                    found.Add(addend);
                }
            }
        }

        if (dynamic.RelativeRelocations != 0)
        {
            ReadRelative(elf, elf.ReadRangeAtAddress(dynamic.RelativeRelocations, dynamic.RelativeRelocationsSize, "the relative relocation table"), start, length, found);
        }

        if (elf.IsPositionIndependent)
        {
            return;
        }

        foreach (ElfSegment segment in elf.Segments)
        {
            if (segment.Type == ElfSegment.Load && !segment.IsExecutable)
            {
                byte[] data = elf.ReadRange(segment.FileOffset, segment.FileSize, "a data segment");
                for (int at = (int)(-(long)segment.Address & 7); at + sizeof(ulong) <= data.Length; at += sizeof(ulong))
                {
                    Add(BinaryPrimitives.ReadUInt64LittleEndian(data.AsSpan(at)), start, length, found);
                }
            }
        }
    }

    /// <summary>Source: the proposal for SHT_RELR: an address, then bitmaps of the words behind it. The addends are in place.</summary>
    private static void ReadRelative(ElfFile elf, byte[] table, ulong start, ulong length, List<ulong> found)
    {
        ulong next = 0;
        for (int at = 0; at + sizeof(ulong) <= table.Length; at += sizeof(ulong))
        {
            ulong entry = BinaryPrimitives.ReadUInt64LittleEndian(table.AsSpan(at));
            if ((entry & 1) == 0)
            {
                AddInPlace(elf, entry, start, length, found);
                next = entry + sizeof(ulong);
                continue;
            }

            for (int bit = 1; bit < 64; bit++)
            {
                if ((entry >> bit & 1) != 0)
                {
                    AddInPlace(elf, next + ((ulong)(bit - 1) * sizeof(ulong)), start, length, found);
                }
            }

            next += 63 * sizeof(ulong);
        }
    }

    private static void AddInPlace(ElfFile elf, ulong address, ulong start, ulong length, List<ulong> found)
    {
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        if (elf.ReadAtAddress(address, word) == word.Length)
        {
            Add(BinaryPrimitives.ReadUInt64LittleEndian(word), start, length, found);
        }
    }

    private static void Add(ulong value, ulong start, ulong length, List<ulong> found)
    {
        if (value - start < length)
        {
            found.Add(value);
        }
    }
}
