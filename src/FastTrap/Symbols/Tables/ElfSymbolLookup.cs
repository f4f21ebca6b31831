using System.Buffers.Binary;
using System.Text;

namespace FastTrap.Symbols;

/// <summary>Finds one symbol of a file by its name, variables too, which <see cref="SymbolTable"/> does not hold.</summary>
internal static class ElfSymbolLookup
{
    private const int SymbolSize = 24;
    private const int ThreadLocal = 6;
    private const int PieceEntries = 4096;

    /// <summary>Finds a defined symbol, in the full table if the file has one, else in the dynamic one.</summary>
    /// <param name="elf">The file.</param>
    /// <param name="name">The name without version.</param>
    /// <param name="value">Its link-time address, or its offset in the thread-local block.</param>
    /// <param name="isThreadLocal">Whether it is thread-local.</param>
    /// <exception cref="ElfFormatException">A table is malformed, or larger than the limits.</exception>
    public static bool TryFind(ElfFile elf, string name, out ulong value, out bool isThreadLocal)
    {
        byte[] wanted = Encoding.UTF8.GetBytes(name + "\0");
        if (elf.TryGetSection(ElfSection.SymbolTable, out ElfSection table) && table.Link < (uint)elf.Sections.Length)
        {
            ElfSection strings = elf.Sections[(int)table.Link];
            byte[] names = elf.ReadRange(strings.FileOffset, strings.Size, "the string table");
            if (TryFind(elf, wanted, names, table.FileOffset, table.Size / SymbolSize, out value, out isThreadLocal))
            {
                return true;
            }
        }

        if (DynamicSymbols.TryLocate(elf, out DynamicSymbols located))
        {
            byte[] names = elf.ReadRange(located.StringsOffset, located.StringsSize, "the dynamic string table");
            return TryFind(elf, wanted, names, located.SymbolsOffset, (ulong)located.Count, out value, out isThreadLocal);
        }

        value = 0;
        isThreadLocal = false;
        return false;
    }

    private static bool TryFind(
        ElfFile elf, ReadOnlySpan<byte> wanted, ReadOnlySpan<byte> names, ulong tableOffset, ulong count, out ulong value, out bool isThreadLocal)
    {
        elf.CheckRange(tableOffset, count * SymbolSize, "the symbol table");
        byte[] piece = new byte[(int)Math.Min(count, PieceEntries) * SymbolSize];
        for (ulong done = 0; done < count; done += PieceEntries)
        {
            Span<byte> entries = piece.AsSpan(0, (int)Math.Min(count - done, PieceEntries) * SymbolSize);
            elf.ReadExactly(tableOffset + (done * SymbolSize), entries, "the symbol table");
            for (; entries.Length >= SymbolSize; entries = entries[SymbolSize..])
            {
                uint nameOffset = BinaryPrimitives.ReadUInt32LittleEndian(entries);
                bool isDefined = BinaryPrimitives.ReadUInt16LittleEndian(entries[6..]) != 0;
                if (isDefined && nameOffset < (uint)names.Length && names[(int)nameOffset..].StartsWith(wanted))
                {
                    value = BinaryPrimitives.ReadUInt64LittleEndian(entries[8..]);
                    isThreadLocal = (entries[4] & 15) == ThreadLocal;
                    return true;
                }
            }
        }

        value = 0;
        isThreadLocal = false;
        return false;
    }
}
