namespace FastTrap.Symbols;

/// <summary>e_machine of the architectures that are read.</summary>
internal enum ElfMachine : ushort
{
    /// <summary>EM_X86_64.</summary>
    X64 = 62,

    /// <summary>EM_AARCH64.</summary>
    Arm64 = 183,
}

/// <summary>e_type.</summary>
internal enum ElfType : ushort
{
    /// <summary>ET_REL: an object file.</summary>
    Relocatable = 1,

    /// <summary>ET_EXEC: a program at fixed addresses.</summary>
    Executable = 2,

    /// <summary>ET_DYN: a shared library or a position-independent program.</summary>
    Dynamic = 3,

    /// <summary>ET_CORE.</summary>
    Core = 4,
}
