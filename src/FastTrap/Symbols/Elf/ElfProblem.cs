namespace FastTrap.Symbols;

/// <summary>Why a file cannot serve as a module.</summary>
internal enum ElfProblem
{
    /// <summary>Nothing is wrong.</summary>
    None,

    /// <summary>The bytes do not begin with the ELF magic.</summary>
    NotElf,

    /// <summary>A 32-bit program or library.</summary>
    Elf32,

    /// <summary>Big-endian data.</summary>
    BigEndian,

    /// <summary>Neither x86-64 nor AArch64.</summary>
    UnsupportedMachine,

    /// <summary>The file ends before something it promises.</summary>
    Truncated,

    /// <summary>Fields contradict each other.</summary>
    Malformed,

    /// <summary>More of something than <see cref="ElfLimits"/> allows.</summary>
    LimitExceeded,
}
