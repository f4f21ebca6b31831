namespace FastTrap;

/// <summary>What the value of a probe's argument is.</summary>
public enum ArgumentKind
{
    /// <summary>An unsigned integer, or a pointer, extended with zeros to 64 bits.</summary>
    Unsigned,

    /// <summary>A signed integer, extended with its sign to 64 bits.</summary>
    Signed,

    /// <summary>A <c>float</c> or a <c>double</c>. As a value of 64 bits it is the bits of the <c>double</c>.</summary>
    Floating,

    /// <summary>More than 64 bits: a vector or a long double. As a value of 64 bits it is the lowest eight bytes; <see cref="ProbeContext.ReadArgument"/> reads all.</summary>
    Vector,

    /// <summary>Nothing is known of where it is; <see cref="ArgumentDescription.Location"/> says why.</summary>
    Unreadable,
}
