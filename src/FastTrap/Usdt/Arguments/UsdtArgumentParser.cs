using System.Globalization;
using FastTrap.Symbols;

namespace FastTrap.Usdt;

/// <summary>
/// Reads an argument string, <c>SIZE@OPERAND</c> separated by spaces, in the assembler syntax of either architecture. What it cannot read becomes an
/// unreadable argument in its place; the others stand.
/// </summary>
/// <remarks>Pure, but for the symbols. A size is in bytes, negative for signed, followed by <c>f</c> for floating; without one it is that of a pointer.</remarks>
internal static class UsdtArgumentParser
{
    /// <summary>Arguments that are looked at; the macros that make them know twelve.</summary>
    private const int MaximumArguments = 32;

    private const int MaximumReason = 60;

    public static UsdtArgument[] Parse(string text, ElfMachine machine, UsdtSymbols symbols)
    {
        List<UsdtArgument> arguments = [];
        foreach (string word in Split(text))
        {
            if (arguments.Count == MaximumArguments)
            {
                break;
            }

            arguments.Add(ParseOne(word, machine, symbols));
        }

        return [.. arguments];
    }

    private static UsdtArgument ParseOne(string word, ElfMachine machine, UsdtSymbols symbols)
    {
        int at = word.IndexOf('@', StringComparison.Ordinal);
        bool hasSize = TryParseSize(at < 0 ? default : word.AsSpan(0, at), out ArgumentKind kind, out int size);
        if (!hasSize && at >= 0 && IsSizeLike(word.AsSpan(0, at)))
        {
            return UsdtArgument.Unreadable($"no value has the size {Shorten(word[..at])}");
        }

        UsdtExpression operandText = new(hasSize ? word[(at + 1)..].Trim() : word, symbols);
        bool isParsed = machine == ElfMachine.X64
            ? X64UsdtOperand.TryParse(operandText, out UsdtOperand operand, out string reason)
            : Arm64UsdtOperand.TryParse(operandText, out operand, out reason);
        if (!isParsed)
        {
            return UsdtArgument.Unreadable(reason);
        }

        if (operand.Kind != UsdtOperandKind.Vector && operand.Kind != UsdtOperandKind.Memory && size > sizeof(ulong))
        {
            return UsdtArgument.Unreadable($"{size} bytes do not fit into {Shorten(operand.Text)}");
        }

        return operand.Kind == UsdtOperandKind.Vector && size > operand.Width
            ? UsdtArgument.Unreadable($"{size} bytes do not fit into {Shorten(operand.Text)}")
            : new UsdtArgument(kind, size, operand);
    }

    /// <summary>Reads what stands before the <c>@</c>.</summary>
    private static bool TryParseSize(ReadOnlySpan<char> text, out ArgumentKind kind, out int size)
    {
        kind = ArgumentKind.Unsigned;
        size = sizeof(ulong);
        text = text.Trim();
        bool isFloating = text.EndsWith("f");
        if (!int.TryParse(isFloating ? text[..^1] : text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number) || number == int.MinValue)
        {
            return false;
        }

        size = Math.Abs(number);
        bool isOver64 = size is 10 or 12 or 16 or 32;
        kind = isOver64 ? ArgumentKind.Vector
            : isFloating ? ArgumentKind.Floating
            : number < 0 ? ArgumentKind.Signed : ArgumentKind.Unsigned;
        return isOver64 || (isFloating ? size is 4 or 8 : size is 1 or 2 or 4 or 8);
    }

    /// <summary>Whether a word was meant as a size, so that what follows is no symbol's version.</summary>
    private static bool IsSizeLike(ReadOnlySpan<char> text) => text.IsEmpty || char.IsAsciiDigit(text[0]) || (text[0] == '-' && text.Length > 1 && char.IsAsciiDigit(text[1]));

    /// <summary>Splits at spaces that stand in no brackets.</summary>
    private static List<string> Split(string text)
    {
        List<string> words = [];
        int start = -1;
        int depth = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            char c = i == text.Length ? ' ' : text[i];
            depth += c is '[' or '(' ? 1 : c is ']' or ')' ? -1 : 0;
            bool isSeparator = i == text.Length || (c == ' ' && depth <= 0 && (start < 0 || text[i - 1] != '@'));
            if (isSeparator && start >= 0)
            {
                words.Add(text[start..i]);
                start = -1;
                depth = 0;
            }
            else if (c != ' ' && start < 0)
            {
                start = i;
            }
        }

        return words;
    }

    /// <summary>A piece of a hostile text for a message.</summary>
    public static string Shorten(string text) => text.Length <= MaximumReason ? $"'{text}'" : $"'{text[..MaximumReason]}...'";
}
