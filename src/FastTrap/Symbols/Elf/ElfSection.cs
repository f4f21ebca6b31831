namespace FastTrap.Symbols;

/// <summary>A section header. Nothing in it has been checked against the file's length.</summary>
internal readonly record struct ElfSection(
    uint NameOffset, uint Type, ulong Flags, ulong Address, ulong FileOffset, ulong Size, uint Link, uint Info, ulong EntrySize)
{
    public const uint SymbolTable = 2;
    public const uint Rela = 4;
    public const uint Note = 7;
    public const uint NoBits = 8;
    public const uint DynamicSymbols = 11;
    public const uint GnuVersionDefinitions = 0x6ffffffd;
    public const uint GnuVersionNeeds = 0x6ffffffe;
    public const uint GnuVersions = 0x6fffffff;

    /// <summary>SHF_ALLOC.</summary>
    public bool IsLoaded => (Flags & 2) != 0;

    /// <summary>SHF_EXECINSTR.</summary>
    public bool IsExecutable => (Flags & 4) != 0;

    /// <summary>Whether the section's memory covers a link-time address.</summary>
    public bool Contains(ulong address) => address - Address < Size;
}
