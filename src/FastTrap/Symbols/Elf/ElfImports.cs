using System.Buffers.Binary;
using System.Text;

namespace FastTrap.Symbols;

/// <summary>A slot which the dynamic linker fills with the address of a function.</summary>
/// <param name="SlotAddress">Link-time address of the slot.</param>
/// <param name="ResolverAddress">For IRELATIVE: link-time address of the resolver; else 0.</param>
/// <param name="NameOffset">Where the function's name stands in the strings; -1 for IRELATIVE.</param>
/// <param name="NameLength">Bytes of the name.</param>
/// <param name="Version">The version that is asked for, or null.</param>
internal readonly record struct ElfImport(ulong SlotAddress, ulong ResolverAddress, int NameOffset, int NameLength, string? Version);

/// <summary>The relocations of a module that matter for finding implementations: IRELATIVE, JUMP_SLOT, GLOB_DAT. Immutable.</summary>
internal sealed class ElfImports
{
    private const int RelaSize = 24;
    private const int SymbolSize = 24;

    private readonly List<ElfImport> _imports = [];
    private byte[] _strings = [];

    /// <summary>All of them.</summary>
    public IReadOnlyList<ElfImport> Entries => _imports;

    /// <summary>The name which an import asks for.</summary>
    public ReadOnlySpan<byte> Name(in ElfImport import) =>
        import.NameOffset < 0 ? default : _strings.AsSpan(import.NameOffset, import.NameLength);

    /// <summary>Reads the relocation tables that the dynamic segment names or, in a static program, those with a section.</summary>
    /// <exception cref="ElfFormatException">They reach past the end of the file.</exception>
    public static ElfImports Read(ElfFile elf)
    {
        ElfImports result = new();
        byte[] symbols = [];
        ElfVersions versions = ElfVersions.None;
        if (DynamicSymbols.TryLocate(elf, out DynamicSymbols located))
        {
            result._strings = elf.ReadRange(located.StringsOffset, located.StringsSize, "the dynamic string table");
            symbols = elf.ReadRange(located.SymbolsOffset, (ulong)located.Count * SymbolSize, "the dynamic symbol table");
            versions = ElfVersions.Read(elf, located.Count, result._strings);
        }

        ElfDynamic dynamic = elf.Dynamic;
        if (dynamic.IsPresent)
        {
            result.AddTable(elf, dynamic.Rela, dynamic.RelaSize, symbols, versions);
            result.AddTable(elf, dynamic.JumpRelocations, dynamic.JumpRelocationsSize, symbols, versions);
            return result;
        }

        ulong total = 0;
        foreach (ElfSection section in elf.Sections)
        {
            if (section.Type == ElfSection.Rela && section.IsLoaded)
            {
                total += Math.Min(section.Size, (ulong)elf.Length);
                if (total > (ulong)elf.Length)
                {
                    throw elf.Fail(ElfProblem.Malformed, "the relocation tables overlap");
                }

                result.Add(elf, elf.ReadRange(section.FileOffset, section.Size, "a relocation table"), symbols, versions);
            }
        }

        return result;
    }

    private void AddTable(ElfFile elf, ulong address, ulong size, ReadOnlySpan<byte> symbols, ElfVersions versions)
    {
        if (address != 0 && size != 0)
        {
            Add(elf, elf.ReadRangeAtAddress(address, size, "a relocation table"), symbols, versions);
        }
    }

    private void Add(ElfFile elf, ReadOnlySpan<byte> table, ReadOnlySpan<byte> symbols, ElfVersions versions)
    {
        bool isX64 = elf.Machine == ElfMachine.X64;
        (uint relative, uint jumpSlot, uint globalData) = isX64 ? (37u, 7u, 6u) : (1032u, 1026u, 1025u);
        for (; table.Length >= RelaSize; table = table[RelaSize..])
        {
            ulong slot = BinaryPrimitives.ReadUInt64LittleEndian(table);
            ulong info = BinaryPrimitives.ReadUInt64LittleEndian(table[8..]);
            uint type = (uint)info;
            if (type == relative)
            {
                _imports.Add(new ElfImport(slot, BinaryPrimitives.ReadUInt64LittleEndian(table[16..]), -1, 0, null));
                continue;
            }

            ulong symbol = info >> 32;
            if ((type != jumpSlot && type != globalData) || symbol >= (ulong)(symbols.Length / SymbolSize))
            {
                continue;
            }

            uint nameOffset = BinaryPrimitives.ReadUInt32LittleEndian(symbols[((int)symbol * SymbolSize)..]);
            if (nameOffset >= (uint)_strings.Length)
            {
                continue;
            }

            ReadOnlySpan<byte> rest = _strings.AsSpan((int)nameOffset);
            int length = rest[..Math.Min(rest.Length, elf.Limits.MaxNameLength)].IndexOf((byte)0);
            if (length > 0)
            {
                _imports.Add(new ElfImport(slot, 0, (int)nameOffset, length, versions.Get((int)symbol, out _)));
            }
        }
    }

}
