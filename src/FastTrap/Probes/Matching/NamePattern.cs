using System.Globalization;
using FastTrap.Symbols;

namespace FastTrap.Probes;

/// <summary>The name part of a description: which of a function's entry, returns and instructions it means. Immutable.</summary>
internal sealed class NamePattern
{
    private readonly Glob? _offsets;

    public NamePattern(string text)
    {
        Glob glob = new(text);
        MatchesEntry = glob.IsMatch("entry");
        MatchesReturn = glob.IsMatch("return");
        if (glob.ExactText is { } exact)
        {
            ReadOnlySpan<char> digits = exact.StartsWith("0x", StringComparison.OrdinalIgnoreCase) ? exact.AsSpan(2) : exact;
            if (ulong.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong offset))
            {
                ExactOffset = offset;
            }
        }
        else
        {
            _offsets = glob;
        }
    }

    public bool MatchesEntry { get; }

    public bool MatchesReturn { get; }

    /// <summary>The one instruction that is meant, in bytes from the function's start.</summary>
    public ulong? ExactOffset { get; }

    /// <summary>Whether instructions are meant by a glob.</summary>
    public bool MatchesOffsets => _offsets is not null;

    /// <summary>Whether it can mean anything at all.</summary>
    public bool IsPossible => MatchesEntry || MatchesReturn || ExactOffset is not null || MatchesOffsets;

    public bool IsOffsetMatch(string name) => _offsets is { } glob && glob.IsMatch(name);

    /// <summary>An offset as a probe's name.</summary>
    public static string NameOf(ulong offset) => offset.ToString("x", CultureInfo.InvariantCulture);
}
