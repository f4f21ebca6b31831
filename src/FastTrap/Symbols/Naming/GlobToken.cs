using System.Text;

namespace FastTrap.Symbols;

/// <summary>What a token of a <see cref="Glob"/> takes.</summary>
internal enum GlobTokenKind : byte
{
    /// <summary>One given byte.</summary>
    Byte,

    /// <summary>Any one character.</summary>
    Character,

    /// <summary>One character in, or not in, a set.</summary>
    Set,

    /// <summary>Any number of characters.</summary>
    Star,
}

/// <summary>A token of a <see cref="Glob"/>.</summary>
internal readonly struct GlobToken
{
    private readonly (Rune Low, Rune High)[]? _ranges;
    private readonly bool _isNegated;

    private GlobToken(GlobTokenKind kind, byte value, (Rune Low, Rune High)[]? ranges, bool isNegated)
    {
        Kind = kind;
        Value = value;
        _ranges = ranges;
        _isNegated = isNegated;
    }

    public GlobTokenKind Kind { get; }

    /// <summary>The byte of a <see cref="GlobTokenKind.Byte"/>.</summary>
    public byte Value { get; }

    /// <summary>Splits a pattern; stars that follow one another become one.</summary>
    public static GlobToken[] Parse(string pattern)
    {
        List<GlobToken> tokens = [];
        Rune[] runes = [.. pattern.EnumerateRunes()];
        for (int i = 0; i < runes.Length; i++)
        {
            switch (runes[i].Value)
            {
                case '*':
                    if (tokens.Count == 0 || tokens[^1].Kind != GlobTokenKind.Star)
                    {
                        tokens.Add(new GlobToken(GlobTokenKind.Star, 0, null, false));
                    }

                    break;
                case '?':
                    tokens.Add(new GlobToken(GlobTokenKind.Character, 0, null, false));
                    break;
                case '[' when TryParseSet(runes, ref i, out GlobToken set):
                    tokens.Add(set);
                    break;
                case '\\' when i + 1 < runes.Length:
                    AddBytes(tokens, runes[++i]);
                    break;
                default:
                    AddBytes(tokens, runes[i]);
                    break;
            }
        }

        return [.. tokens];
    }

    /// <summary>How many bytes of a name, which is not empty, the token takes; 0 when it does not match. Not for stars.</summary>
    public int Match(ReadOnlySpan<byte> name)
    {
        switch (Kind)
        {
            case GlobTokenKind.Byte:
                return name[0] == Value ? 1 : 0;
            case GlobTokenKind.Character:
                return CharacterLength(name);
            default:
                Rune.DecodeFromUtf8(name, out Rune rune, out int length);
                foreach ((Rune low, Rune high) in _ranges!)
                {
                    if (rune >= low && rune <= high)
                    {
                        return _isNegated ? 0 : length;
                    }
                }

                return _isNegated ? length : 0;
        }
    }

    /// <summary>Bytes of the first character of a name that is not empty.</summary>
    public static int CharacterLength(ReadOnlySpan<byte> name)
    {
        if (name[0] < 0x80)
        {
            return 1;
        }

        Rune.DecodeFromUtf8(name, out _, out int length);
        return length;
    }

    private static void AddBytes(List<GlobToken> tokens, Rune rune)
    {
        Span<byte> utf8 = stackalloc byte[4];
        foreach (byte value in utf8[..rune.EncodeToUtf8(utf8)])
        {
            tokens.Add(new GlobToken(GlobTokenKind.Byte, value, null, false));
        }
    }

    /// <summary>
    /// Parses "[...]" at <paramref name="index"/>; a "]" that comes first is a member. Without an end the bracket is no set.
    /// </summary>
    private static bool TryParseSet(Rune[] runes, ref int index, out GlobToken set)
    {
        int i = index + 1;
        bool negated = i < runes.Length && runes[i].Value == '!';
        i += negated ? 1 : 0;
        int first = i;
        List<(Rune, Rune)> ranges = [];
        while (i < runes.Length && (runes[i].Value != ']' || i == first))
        {
            Rune low = Member(runes, ref i);
            Rune high = low;
            if (i + 1 < runes.Length && runes[i].Value == '-' && runes[i + 1].Value != ']')
            {
                i++;
                high = Member(runes, ref i);
            }

            ranges.Add((low, high));
        }

        set = new GlobToken(GlobTokenKind.Set, 0, [.. ranges], negated);
        if (i >= runes.Length)
        {
            return false;
        }

        index = i;
        return true;
    }

    private static Rune Member(Rune[] runes, ref int i)
    {
        if (runes[i].Value == '\\' && i + 1 < runes.Length)
        {
            i++;
        }

        return runes[i++];
    }
}
