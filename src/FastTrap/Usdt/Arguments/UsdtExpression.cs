using System.Globalization;

namespace FastTrap.Usdt;

/// <summary>The text of one operand with the symbols that it may name.</summary>
internal readonly record struct UsdtExpression(string Text, UsdtSymbols Symbols)
{
    private const int MaximumTerms = 8;

    /// <summary>
    /// Reads a sum of numbers and at most one symbol, as <c>52+CheckpointStats</c>, <c>sym-4</c>, <c>-0x10</c>, <c>counter@tpoff</c>.
    /// </summary>
    /// <param name="text">The sum.</param>
    /// <param name="value">Its value: with a symbol, an address in the target, or an offset from the thread pointer.</param>
    /// <param name="name">The symbol; empty if there is none.</param>
    /// <param name="offset">The numbers alone.</param>
    /// <param name="reason">What is wrong.</param>
    public bool TryParseSum(ReadOnlySpan<char> text, out ulong value, out string name, out ulong offset, out string reason)
    {
        value = offset = 0;
        name = "";
        reason = "";
        bool isNegative = false;
        for (int terms = 0; ; terms++)
        {
            text = text.Trim();
            while (text is ['+' or '-', ..])
            {
                isNegative ^= text[0] == '-';
                text = text[1..].TrimStart();
            }

            int end = text.IndexOfAny('+', '-');
            ReadOnlySpan<char> term = (end < 0 ? text : text[..end]).Trim();
            if (term.IsEmpty || terms == MaximumTerms)
            {
                reason = $"{UsdtArgumentParser.Shorten(Text)} is not understood";
                return false;
            }

            if (TryParseNumber(term, out ulong number))
            {
                offset += isNegative ? 0 - number : number;
            }
            else if (name.Length != 0 || isNegative || !TryResolve(term, out value, out reason))
            {
                reason = reason.Length != 0 ? reason : $"{UsdtArgumentParser.Shorten(Text)} is not understood";
                return false;
            }
            else
            {
                name = term.ToString();
            }

            if (end < 0)
            {
                value += offset;
                return true;
            }

            isNegative = text[end] == '-';
            text = text[(end + 1)..];
        }
    }

    /// <summary>A number as assemblers write it: decimal, hexadecimal after <c>0x</c>, octal after <c>0</c>.</summary>
    private static bool TryParseNumber(ReadOnlySpan<char> text, out ulong value)
    {
        if (text.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
        {
            return ulong.TryParse(text[2..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value);
        }

        if (text is ['0', _, ..])
        {
            value = 0;
            foreach (char digit in text)
            {
                if (digit is < '0' or > '7' || value >> 61 != 0)
                {
                    return false;
                }

                value = (value << 3) + (ulong)(digit - '0');
            }

            return true;
        }

        return ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);
    }

    private bool TryResolve(ReadOnlySpan<char> term, out ulong value, out string reason)
    {
        int at = term.IndexOf('@');
        string modifier = at < 0 ? "" : term[(at + 1)..].ToString();
        string name = (at < 0 ? term : term[..at]).ToString();
        value = 0;
        if (name.Length == 0 || !name.All(static c => char.IsAsciiLetterOrDigit(c) || c is '_' or '.' or '$') || char.IsAsciiDigit(name[0]))
        {
            reason = $"{UsdtArgumentParser.Shorten(Text)} is not understood";
            return false;
        }

        bool isThreadLocal = modifier.Equals("tpoff", StringComparison.OrdinalIgnoreCase) || modifier.Equals("ntpoff", StringComparison.OrdinalIgnoreCase);
        if (!isThreadLocal && modifier.Length != 0 && !modifier.Equals("plt", StringComparison.OrdinalIgnoreCase))
        {
            reason = $"the relocation {UsdtArgumentParser.Shorten(modifier)} cannot be followed";
            return false;
        }

        bool found = isThreadLocal ? Symbols.TryGetThreadOffset(name, out value) : Symbols.TryGetAddress(name, out value);
        reason = found ? "" : $"the symbol {UsdtArgumentParser.Shorten(name)} is not in the file's symbol table{(isThreadLocal ? ", or not in a program's" : "")}";
        return found;
    }
}
