namespace FastTrap.Usdt;

/// <summary>Types of sections that concern probes (DOF_SECT_*).</summary>
internal enum DofSectionType : uint
{
    None = 0,
    EcbDescription = 3,
    StringTable = 8,
    RelocationTable = 10,
    UserRelocations = 12,
    Provider = 15,
    Probes = 16,
    ArgumentMap = 17,
    Offsets = 18,
    IntegerTable = 19,
    TranslatorReferences = 21,
    IsEnabledOffsets = 26,
}

/// <summary>A section header, checked against the bounds of the file.</summary>
internal readonly record struct DofSection(int Index, DofSectionType Type, uint Alignment, uint Flags, uint EntrySize, int Offset, int Size)
{
    /// <summary>Whether it is meant for whoever registers the probes (DOF_SECF_LOAD).</summary>
    public bool IsLoaded => (Flags & 1) != 0;

    /// <summary>How many whole entries there are.</summary>
    public int Count => Size / (int)EntrySize;

    /// <summary>Types which are always loaded; the others (comments, source, names of the system) never need be.</summary>
    public static bool MustBeLoaded(uint type) =>
        type is (>= (uint)DofSectionType.EcbDescription and <= (uint)DofSectionType.IntegerTable)
            or (>= (uint)DofSectionType.TranslatorReferences and <= (uint)DofSectionType.IsEnabledOffsets);
}
