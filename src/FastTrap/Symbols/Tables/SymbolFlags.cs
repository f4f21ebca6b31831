namespace FastTrap.Symbols;

/// <summary>What is known of a function symbol besides name, address and size.</summary>
[Flags]
internal enum SymbolFlags : byte
{
    None = 0,

    /// <summary>STB_GLOBAL (or unique).</summary>
    Global = 1,

    /// <summary>STB_WEAK.</summary>
    Weak = 2,

    /// <summary>STT_GNU_IFUNC: the address is a resolver's, which picks the implementation at load time.</summary>
    Ifunc = 4,

    /// <summary>The symbol has no size; what is given reaches to the next symbol or the end of the section.</summary>
    SizeIsGuessed = 8,

    /// <summary>In the dynamic symbol table, so other modules may bind to it.</summary>
    Dynamic = 16,

    /// <summary>STT_NOTYPE: an entry point written in assembly.</summary>
    NoType = 32,

    /// <summary>The version is the one that a plain name binds to (<c>@@</c>).</summary>
    DefaultVersion = 64,

    /// <summary>The rarely run part which the compiler split off a function (<c>name.cold</c>), not a function.</summary>
    ColdPart = 128,
}
