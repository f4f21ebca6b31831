using System.Numerics;

namespace FastTrap.Isa.X64;

/// <summary>One bit for each byte of a piece of code. Indices outside of it are the caller's error.</summary>
internal readonly struct CodeBits(int length)
{
    private readonly ulong[] _words = new ulong[(length >> 6) + 1];

    /// <summary>The words, lowest bit first.</summary>
    public ReadOnlySpan<ulong> Words => _words;

    /// <summary>Whether the bit is set.</summary>
    public bool this[int index] => (_words[index >> 6] & (1UL << index)) != 0;

    public void Set(int index) => _words[index >> 6] |= 1UL << index;

    public void SetRange(int start, int end)
    {
        for (; start < end; start++)
        {
            Set(start);
        }
    }

    public void ClearRange(int start, int end)
    {
        for (; start < end; start++)
        {
            _words[start >> 6] &= ~(1UL << start);
        }
    }

    /// <summary>The first set bit in a range, or <paramref name="end"/>.</summary>
    public int Next(int start, int end)
    {
        while (start < end)
        {
            ulong rest = _words[start >> 6] >> start;
            if (rest != 0)
            {
                return Math.Min(end, start + BitOperations.TrailingZeroCount(rest));
            }

            start = (start | 63) + 1;
        }

        return end;
    }

    /// <summary>The last set bit below <paramref name="end"/> that is not below <paramref name="start"/>, or -1.</summary>
    public int Previous(int start, int end)
    {
        while (end > start)
        {
            int last = end - 1;
            ulong rest = _words[last >> 6] << (63 - (last & 63));
            if (rest != 0)
            {
                int found = last - BitOperations.LeadingZeroCount(rest);
                return found >= start ? found : -1;
            }

            end = last & ~63;
        }

        return -1;
    }
}
