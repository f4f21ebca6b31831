namespace FastTrap.Symbols;

/// <summary>Where the dynamic symbol table and its strings stand in a file.</summary>
internal readonly record struct DynamicSymbols(ulong SymbolsOffset, int Count, ulong StringsOffset, ulong StringsSize)
{
    private const int SymbolSize = 24;

    /// <summary>Finds the table by its section header or, when there is none, by the dynamic segment.</summary>
    /// <exception cref="ElfFormatException">What the file says about the table is wrong.</exception>
    public static bool TryLocate(ElfFile elf, out DynamicSymbols located)
    {
        if (elf.TryGetSection(ElfSection.DynamicSymbols, out ElfSection table))
        {
            if (table.Link >= (uint)elf.Sections.Length)
            {
                throw elf.Fail(ElfProblem.Malformed, "the dynamic symbol table names no string table");
            }

            ElfSection strings = elf.Sections[(int)table.Link];
            elf.CheckRange(table.FileOffset, table.Size, "the dynamic symbol table");
            located = new DynamicSymbols(table.FileOffset, (int)(table.Size / SymbolSize), strings.FileOffset, strings.Size);
            return true;
        }

        ElfDynamic dynamic = elf.Dynamic;
        if (dynamic.SymbolTable == 0 || dynamic.StringTable == 0
            || !elf.TryGetFileOffset(dynamic.SymbolTable, out ulong symbolsOffset, out ulong symbolsAvailable)
            || !elf.TryGetFileOffset(dynamic.StringTable, out ulong stringsOffset, out ulong stringsAvailable))
        {
            located = default;
            return false;
        }

        ulong count = Math.Min((ulong)dynamic.CountSymbols(elf), symbolsAvailable / SymbolSize);
        located = new DynamicSymbols(symbolsOffset, (int)count, stringsOffset, Math.Min(dynamic.StringTableSize, stringsAvailable));
        return true;
    }
}
