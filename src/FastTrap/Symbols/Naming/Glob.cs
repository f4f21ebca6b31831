using System.Text;

namespace FastTrap.Symbols;

/// <summary>
/// A name pattern as DTrace has it: <c>*</c>, <c>?</c>, <c>[a-z]</c>, <c>[!a-z]</c>, and <c>\</c> before a character that is meant itself.
/// An empty pattern matches everything. Immutable; any thread. Matching allocates nothing for UTF-8 and needs time proportional to
/// pattern times name at worst.
/// </summary>
internal sealed class Glob
{
    private readonly GlobToken[] _tokens;
    private readonly byte[] _first;
    private readonly byte[] _last;
    private readonly byte[] _needle;
    private readonly Shape _shape;

    /// <summary>Compiles a pattern. There are no wrong patterns: an unfinished set or escape stands for itself.</summary>
    public Glob(string pattern)
    {
        Text = pattern;
        _tokens = GlobToken.Parse(pattern);
        (_shape, _first, _last) = Classify();
        _needle = LongestLiteral(_tokens);
        ExactText = _shape == Shape.Exact ? Encoding.UTF8.GetString(_first) : null;
    }

    private enum Shape
    {
        Any,
        Exact,
        Prefix,
        Suffix,
        PrefixAndSuffix,
        Contains,
        General,
    }

    /// <summary>The pattern as it was written.</summary>
    public string Text { get; }

    /// <summary>The only text that matches, without escapes, when the pattern has no wildcard; else null.</summary>
    public string? ExactText { get; }

    /// <summary>Whether everything matches.</summary>
    public bool MatchesAll => _shape == Shape.Any;

    /// <summary>Whether a UTF-8 name matches as a whole. Bytes that are not UTF-8 count as one character each.</summary>
    public bool IsMatch(ReadOnlySpan<byte> name) => _shape switch
    {
        Shape.Any => true,
        Shape.Exact => name.SequenceEqual(_first),
        Shape.Prefix => name.StartsWith(_first),
        Shape.Suffix => name.EndsWith(_last),
        Shape.PrefixAndSuffix => name.Length >= _first.Length + _last.Length && name.StartsWith(_first) && name.EndsWith(_last),
        Shape.Contains => name.IndexOf(_first) >= 0,
        _ => name.StartsWith(_first) && MayMatchPartOf(name) && IsGeneralMatch(name),
    };

    /// <summary>
    /// A quick look: false when neither the name nor any part of it can match, since it lacks a piece of text of the pattern.
    /// </summary>
    public bool MayMatchPartOf(ReadOnlySpan<byte> name) => name.IndexOf(_needle) >= 0;

    /// <summary>Whether a name matches as a whole.</summary>
    public bool IsMatch(ReadOnlySpan<char> name)
    {
        if (_shape == Shape.Any)
        {
            return true;
        }

        Span<byte> utf8 = name.Length <= 256 ? stackalloc byte[name.Length * 3] : new byte[Encoding.UTF8.GetByteCount(name)];
        return IsMatch(utf8[..Encoding.UTF8.GetBytes(name, utf8)]);
    }

    /// <summary>Whether a name matches as a whole.</summary>
    public bool IsMatch(string name) => IsMatch(name.AsSpan());

    public override string ToString() => Text;

    private (Shape Shape, byte[] First, byte[] Last) Classify()
    {
        ReadOnlySpan<GlobToken> tokens = _tokens;
        if (tokens.IsEmpty)
        {
            return (Text.Length == 0 ? Shape.Any : Shape.Exact, [], []);
        }

        int leading = 0;
        while (leading < tokens.Length && tokens[leading].Kind == GlobTokenKind.Byte)
        {
            leading++;
        }

        int trailing = 0;
        while (trailing < tokens.Length - leading && tokens[^(trailing + 1)].Kind == GlobTokenKind.Byte)
        {
            trailing++;
        }

        byte[] first = Bytes(tokens[..leading]);
        byte[] last = Bytes(tokens[^trailing..]);
        ReadOnlySpan<GlobToken> middle = tokens[leading..^trailing];
        if (middle.IsEmpty)
        {
            return (Shape.Exact, first, last);
        }

        if (middle.Length == 1 && middle[0].Kind == GlobTokenKind.Star)
        {
            Shape shape = (leading, trailing) switch
            {
                (0, 0) => Shape.Any,
                (_, 0) => Shape.Prefix,
                (0, _) => Shape.Suffix,
                _ => Shape.PrefixAndSuffix,
            };
            return (shape, first, last);
        }

        if (leading == 0 && trailing == 0 && middle.Length > 2
            && middle[0].Kind == GlobTokenKind.Star && middle[^1].Kind == GlobTokenKind.Star
            && IsAllBytes(middle[1..^1]))
        {
            return (Shape.Contains, Bytes(middle[1..^1]), []);
        }

        return (Shape.General, first, last);
    }

    private static byte[] LongestLiteral(ReadOnlySpan<GlobToken> tokens)
    {
        int bestStart = 0;
        int bestLength = 0;
        int length = 0;
        for (int i = 0; i < tokens.Length; i++)
        {
            length = tokens[i].Kind == GlobTokenKind.Byte ? length + 1 : 0;
            (bestStart, bestLength) = length > bestLength ? (i - length + 1, length) : (bestStart, bestLength);
        }

        return Bytes(tokens.Slice(bestStart, bestLength));
    }

    private static bool IsAllBytes(ReadOnlySpan<GlobToken> tokens)
    {
        foreach (GlobToken token in tokens)
        {
            if (token.Kind != GlobTokenKind.Byte)
            {
                return false;
            }
        }

        return true;
    }

    private static byte[] Bytes(ReadOnlySpan<GlobToken> tokens)
    {
        byte[] bytes = new byte[tokens.Length];
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] = tokens[i].Value;
        }

        return bytes;
    }

    /// <summary>Only the last star is ever reopened: what an earlier one could still take, the last one can take too.</summary>
    private bool IsGeneralMatch(ReadOnlySpan<byte> name)
    {
        ReadOnlySpan<GlobToken> tokens = _tokens;
        int token = 0;
        int position = 0;
        int starToken = -1;
        int starPosition = 0;
        while (position < name.Length)
        {
            if (token < tokens.Length && tokens[token].Kind == GlobTokenKind.Star)
            {
                starToken = token++;
                starPosition = position;
                continue;
            }

            int taken = token < tokens.Length ? tokens[token].Match(name[position..]) : 0;
            if (taken > 0)
            {
                token++;
                position += taken;
            }
            else if (starToken >= 0)
            {
                token = starToken + 1;
                starPosition += GlobToken.CharacterLength(name[starPosition..]);
                position = starPosition;
            }
            else
            {
                return false;
            }
        }

        while (token < tokens.Length && tokens[token].Kind == GlobTokenKind.Star)
        {
            token++;
        }

        return token == tokens.Length;
    }
}
