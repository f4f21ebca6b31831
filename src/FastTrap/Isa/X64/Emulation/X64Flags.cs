using System.Numerics;

namespace FastTrap.Isa.X64;

/// <summary>The status flags of integer arithmetic, computed as the processor does.</summary>
internal static class X64Flags
{
    public const ulong Carry = 1 << 0;
    public const ulong Parity = 1 << 2;
    public const ulong Adjust = 1 << 4;
    public const ulong Zero = 1 << 6;
    public const ulong Sign = 1 << 7;
    public const ulong Overflow = 1 << 11;
    public const ulong Status = Carry | Parity | Adjust | Zero | Sign | Overflow;

    /// <summary>All ones in the low <paramref name="size"/> bytes.</summary>
    public static ulong Mask(int size) => ulong.MaxValue >> (64 - (size * 8));

    public static ulong Add(ulong left, ulong right, ulong carry, int size, ref ulong flags)
    {
        ulong result = left + right + carry;
        ulong carries = (left & right) | ((left | right) & ~result);
        ulong overflows = (left ^ result) & (right ^ result);
        return Set(result, carries, overflows, left ^ right ^ result, size, ref flags);
    }

    public static ulong Subtract(ulong left, ulong right, ulong borrow, int size, ref ulong flags)
    {
        ulong result = left - right - borrow;
        ulong borrows = (~left & right) | ((~left | right) & result);
        ulong overflows = (left ^ right) & (left ^ result);
        return Set(result, borrows, overflows, left ^ right ^ result, size, ref flags);
    }

    /// <summary>After and, or, xor, test: no carry, no overflow; adjust, undefined by the book, is cleared by processors.</summary>
    public static ulong Logic(ulong result, int size, ref ulong flags) => Set(result, 0, 0, 0, size, ref flags);

    /// <summary>Whether the condition with the processor's number <paramref name="condition"/> holds.</summary>
    public static bool Holds(int condition, ulong flags)
    {
        bool holds = (condition >> 1) switch
        {
            0 => (flags & Overflow) != 0,
            1 => (flags & Carry) != 0,
            2 => (flags & Zero) != 0,
            3 => (flags & (Carry | Zero)) != 0,
            4 => (flags & Sign) != 0,
            5 => (flags & Parity) != 0,
            6 => SignDiffers(flags),
            _ => (flags & Zero) != 0 || SignDiffers(flags),
        };
        return holds == ((condition & 1) == 0);
    }

    private static bool SignDiffers(ulong flags) => ((flags & Sign) != 0) != ((flags & Overflow) != 0);

    private static ulong Set(ulong result, ulong carries, ulong overflows, ulong adjusts, int size, ref ulong flags)
    {
        int top = (size * 8) - 1;
        result &= Mask(size);
        ulong set = (carries >> top) & 1;
        set |= ((overflows >> top) & 1) << 11;
        set |= adjusts & Adjust;
        set |= ((result >> top) & 1) << 7;
        if (result == 0)
        {
            set |= Zero;
        }

        if ((BitOperations.PopCount((byte)result) & 1) == 0)
        {
            set |= Parity;
        }

        flags = (flags & ~Status) | set;
        return result;
    }
}
