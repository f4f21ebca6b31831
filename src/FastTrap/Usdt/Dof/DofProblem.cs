namespace FastTrap.Usdt;

/// <summary>Why bytes cannot be read as DOF.</summary>
internal enum DofProblem
{
    /// <summary>They do not begin with the DOF magic.</summary>
    NotDof,

    /// <summary>For 32-bit programs, or for no known kind.</summary>
    WrongModel,

    /// <summary>Big-endian, or of no known byte order.</summary>
    WrongEncoding,

    /// <summary>A version of the format, or of its instruction set, that is not known.</summary>
    UnsupportedVersion,

    /// <summary>Bits that must be zero are not.</summary>
    ReservedBits,

    /// <summary>Something reaches past the end of what holds it.</summary>
    Truncated,

    /// <summary>Something does not stand at a multiple of its alignment, or the alignment is none.</summary>
    Misaligned,

    /// <summary>Two sections, or a section and a header, share bytes.</summary>
    Overlap,

    /// <summary>A section that must be loaded is not marked so.</summary>
    NotLoaded,

    /// <summary>A reference to a section that is not there, or is of another type.</summary>
    WrongSection,

    /// <summary>Entries of a table are not as long as they must be.</summary>
    WrongEntrySize,

    /// <summary>A string table does not end with a zero, or a string begins outside of it or is too long.</summary>
    BadString,

    /// <summary>A name that no probe or provider can have.</summary>
    BadName,

    /// <summary>A stability or class that does not exist.</summary>
    BadAttribute,

    /// <summary>An index outside of its table.</summary>
    BadIndex,

    /// <summary>A probe without any place, with two equal ones, or with one past the end of the address space.</summary>
    BadOffset,

    /// <summary>A relocation of an unknown kind, or of something else than an address.</summary>
    BadRelocation,

    /// <summary>More of something than is believed.</summary>
    LimitExceeded,
}
