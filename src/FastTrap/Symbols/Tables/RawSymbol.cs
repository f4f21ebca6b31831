namespace FastTrap.Symbols;

/// <summary>A symbol on its way into a <see cref="SymbolTable"/>; the name stands in one of the builder's sources.</summary>
internal struct RawSymbol
{
    public ulong Address;
    public uint Size;
    public int NameOffset;
    public int NameLength;
    public int Unit;
    public ushort Version;
    public byte Source;
    public SymbolFlags Flags;
}
