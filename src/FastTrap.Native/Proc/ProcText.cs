using System.Buffers.Text;
using System.Globalization;

namespace FastTrap.Native;

/// <summary>Cutting the texts of /proc into words and numbers. A number that is not one gives false, never an exception.</summary>
internal static class ProcText
{
    /// <summary>Takes the next line, without its end.</summary>
    public static bool TryTakeLine(ref ReadOnlySpan<byte> text, out ReadOnlySpan<byte> line)
    {
        if (text.IsEmpty)
        {
            line = default;
            return false;
        }

        int end = text.IndexOf((byte)'\n');
        line = end < 0 ? text : text[..end];
        text = end < 0 ? default : text[(end + 1)..];
        return true;
    }

    /// <summary>Takes the next word, spaces and tabs around it dropped.</summary>
    public static bool TryTakeWord(ref ReadOnlySpan<byte> text, out ReadOnlySpan<byte> word)
    {
        text = text.TrimStart(" \t"u8);
        int end = text.IndexOfAny((byte)' ', (byte)'\t');
        word = end < 0 ? text : text[..end];
        text = end < 0 ? default : text[end..];
        return !word.IsEmpty;
    }

    public static bool TryParseHex(ReadOnlySpan<byte> word, out ulong value)
    {
        if (word.StartsWith("0x"u8))
        {
            word = word[2..];
        }

        return ulong.TryParse(word, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value);
    }

    public static bool TryParse(ReadOnlySpan<byte> word, out long value) =>
        Utf8Parser.TryParse(word, out value, out int used) && used == word.Length;

    public static bool TryParse(ReadOnlySpan<byte> word, out ulong value) =>
        Utf8Parser.TryParse(word, out value, out int used) && used == word.Length;

    public static bool TryParse(ReadOnlySpan<byte> word, out int value) =>
        Utf8Parser.TryParse(word, out value, out int used) && used == word.Length;
}
