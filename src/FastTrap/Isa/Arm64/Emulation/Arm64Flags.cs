namespace FastTrap.Isa.Arm64;

/// <summary>The processor state as the kernel shows it (SPSR_EL1): condition flags and branch type.</summary>
internal static class Arm64Flags
{
    public const ulong Negative = 1UL << 31;
    public const ulong Zero = 1UL << 30;
    public const ulong Carry = 1UL << 29;
    public const ulong Overflow = 1UL << 28;
    public const ulong All = Negative | Zero | Carry | Overflow;

    /// <summary>How the thread came to its instruction, for landing pads (FEAT_BTI). It must not outlive that instruction.</summary>
    public const ulong BranchType = RegisterSet.Arm64BranchType;

    /// <summary>ConditionHolds of the manual.</summary>
    public static bool Holds(int condition, ulong state)
    {
        bool negative = (state & Negative) != 0;
        bool zero = (state & Zero) != 0;
        bool carry = (state & Carry) != 0;
        bool overflow = (state & Overflow) != 0;
        bool holds = (condition >> 1) switch
        {
            0 => zero,
            1 => carry,
            2 => negative,
            3 => overflow,
            4 => carry && !zero,
            5 => negative == overflow,
            6 => negative == overflow && !zero,
            _ => true,
        };

        // AL and NV both hold.
        return (condition & 1) != 0 && condition != 15 ? !holds : holds;
    }

    /// <summary>The flags of a result: negative and zero, the others as given.</summary>
    public static ulong Of(ulong result, int size, bool carry, bool overflow)
    {
        bool negative = (result >> ((size * 8) - 1)) != 0;
        return (negative ? Negative : 0) | (result == 0 ? Zero : 0) | (carry ? Carry : 0) | (overflow ? Overflow : 0);
    }
}
