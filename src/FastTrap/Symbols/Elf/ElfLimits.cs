namespace FastTrap.Symbols;

/// <summary>How much of a file is believed. The defaults are well above any real program; a file that goes over them is refused.</summary>
internal sealed class ElfLimits
{
    /// <summary>The limits used when none are given.</summary>
    public static ElfLimits Default { get; } = new();

    /// <summary>Program headers.</summary>
    public int MaxSegments { get; init; } = 256;

    /// <summary>Section headers.</summary>
    public int MaxSections { get; init; } = 1 << 19;

    /// <summary>Bytes of one table that is read whole: symbols, strings, unwind tables.</summary>
    public long MaxTableBytes { get; init; } = 768L << 20;

    /// <summary>Function symbols kept of one module.</summary>
    public int MaxSymbols { get; init; } = 8 << 20;

    /// <summary>Bytes of a symbol's name; a longer one is left out.</summary>
    public int MaxNameLength { get; init; } = 64 << 10;

    /// <summary>Bytes of all names of a module together.</summary>
    public int MaxNameBytes { get; init; } = 768 << 20;

    /// <summary>Names left out for their length before the file is refused.</summary>
    public int MaxOverlongNames { get; init; } = 4096;

    /// <summary>Unwind ranges of one module.</summary>
    public int MaxUnwindRanges { get; init; } = 8 << 20;

    /// <summary>Bytes of a perf map file that are read.</summary>
    public long MaxPerfMapBytes { get; init; } = 256L << 20;

    /// <summary>Functions of a perf map file that are kept.</summary>
    public int MaxPerfMapEntries { get; init; } = 2 << 20;
}
