using System.Globalization;

namespace FastTrap.Usdt;

/// <summary>
/// Operands of arm64: <c>5</c>, <c>#5</c>, <c>w0</c>, <c>x0</c>, <c>d0</c>, <c>[sp, 96]</c>, <c>[x0, x1, lsl 3]</c>, <c>[x0, w1, sxtw 2]</c>,
/// <c>[x0, #:lo12:sym]</c>.
/// </summary>
internal static class Arm64UsdtOperand
{
    public static bool TryParse(UsdtExpression expression, out UsdtOperand operand, out string reason)
    {
        operand = new UsdtOperand();
        string text = expression.Text;
        if (text.StartsWith('['))
        {
            return TryParseMemory(expression, ref operand, out reason);
        }

        if (TryGetRegister(text, out byte number, out byte width, out bool isVector, out bool isZero))
        {
            operand.Kind = isVector ? UsdtOperandKind.Vector : isZero ? UsdtOperandKind.Constant : UsdtOperandKind.Register;
            operand.Register = isZero ? UsdtOperand.NoRegister : number;
            operand.Width = width;
            operand.Text = isVector ? text.ToLowerInvariant() : isZero ? "0" : NameOf(number);
            reason = "";
            return true;
        }

        ReadOnlySpan<char> sum = text.StartsWith('#') ? text.AsSpan(1) : text;
        if (!expression.TryParseSum(sum, out ulong value, out string name, out ulong offset, out reason))
        {
            return false;
        }

        // A number is itself; a symbol without brackets is the variable.
        operand.Kind = name.Length == 0 ? UsdtOperandKind.Constant : UsdtOperandKind.Memory;
        operand.Value = value;
        operand.Text = name.Length == 0 ? sum.ToString() : UsdtOperand.Describe("", "", "", 1, name, offset);
        return true;
    }

    private static bool TryParseMemory(UsdtExpression expression, ref UsdtOperand operand, out string reason)
    {
        operand.Kind = UsdtOperandKind.Memory;
        reason = $"{UsdtArgumentParser.Shorten(expression.Text)} is not understood";
        if (!expression.Text.EndsWith(']'))
        {
            // With '!' the register would change: no operand of a note does that.
            return false;
        }

        string[] parts = expression.Text[1..^1].Split(',', StringSplitOptions.TrimEntries);
        if (parts.Length > 3 || !TryGetRegister(parts[0], out byte register, out byte width, out bool isVector, out bool isZero) || isVector || isZero || width != 8)
        {
            return false;
        }

        operand.Register = register;
        string indexName = "";
        string symbol = "";
        ulong offset = 0;
        if (parts.Length > 1)
        {
            if (TryGetRegister(parts[1], out byte index, out byte indexWidth, out isVector, out isZero))
            {
                if (isVector || !TrySetIndex(index, indexWidth, isZero, parts.Length > 2 ? parts[2] : "", ref operand))
                {
                    return false;
                }

                indexName = isZero ? "" : NameOf(index);
            }
            else if (parts.Length > 2 || !TrySetDisplacement(expression, parts[1], ref operand, out symbol, out offset, out reason))
            {
                return false;
            }
        }

        operand.Text = UsdtOperand.Describe("", NameOf(register), indexName, operand.Scale, symbol, offset);
        reason = "";
        return true;
    }

    private static bool TrySetDisplacement(UsdtExpression expression, string text, ref UsdtOperand operand, out string symbol, out ulong offset, out string reason)
    {
        const string Low12 = ":lo12:";
        ReadOnlySpan<char> sum = text.StartsWith('#') ? text.AsSpan(1).TrimStart() : text;
        bool isLow = sum.StartsWith(Low12, StringComparison.OrdinalIgnoreCase);
        if (!expression.TryParseSum(isLow ? sum[Low12.Length..] : sum, out ulong value, out symbol, out offset, out reason))
        {
            return false;
        }

        if (isLow != (symbol.Length != 0))
        {
            reason = $"{UsdtArgumentParser.Shorten(expression.Text)} is not understood";
            return false;
        }

        operand.Value = isLow ? value & 0xfff : value;
        return true;
    }

    /// <summary>An index with its shift: <c>lsl 3</c>, <c>sxtw 2</c>, <c>uxtw</c>, or none.</summary>
    private static bool TrySetIndex(byte index, byte width, bool isZero, string shift, ref UsdtOperand operand)
    {
        string[] words = shift.Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        string kind = words.Length == 0 ? "lsl" : words[0].ToLowerInvariant();
        operand.Extension = kind switch
        {
            "sxtw" => UsdtIndexExtension.SignWord,
            "uxtw" => UsdtIndexExtension.ZeroWord,
            _ => UsdtIndexExtension.None,
        };
        bool isWide = kind is "lsl" or "sxtx" or "uxtx";
        if (words.Length > 2 || (!isWide && operand.Extension == UsdtIndexExtension.None) || isWide != (width == 8))
        {
            return false;
        }

        byte amount = 0;
        if (words.Length == 2 && (!byte.TryParse(words[1].TrimStart('#'), NumberStyles.None, CultureInfo.InvariantCulture, out amount) || amount > 4))
        {
            return false;
        }

        operand.Index = isZero ? UsdtOperand.NoRegister : index;
        operand.Scale = (byte)(1 << amount);
        return true;
    }

    private static bool TryGetRegister(string text, out byte number, out byte width, out bool isVector, out bool isZero)
    {
        string name = text.Trim().ToLowerInvariant();
        isVector = false;
        isZero = name is "xzr" or "wzr";
        number = (byte)Arm64Register.Sp;
        width = (byte)(name.StartsWith('w') ? 4 : 8);
        if (isZero || name is "sp" or "wsp")
        {
            return true;
        }

        if (name is "lr" or "fp" or "ip0" or "ip1")
        {
            number = (byte)(name switch { "lr" => 30, "fp" => 29, "ip0" => 16, _ => 17 });
            return true;
        }

        if (name.Length < 2 || !byte.TryParse(name.AsSpan(1), NumberStyles.None, CultureInfo.InvariantCulture, out number) || (name[1] == '0' && name.Length > 2))
        {
            return false;
        }

        isVector = name[0] is 'b' or 'h' or 's' or 'd' or 'q' or 'v';
        width = name[0] switch { 'b' => 1, 'h' => 2, 'w' or 's' => 4, 'q' or 'v' => 16, _ => 8 };
        return number < (isVector ? 32 : 31) && (isVector || name[0] is 'w' or 'x');
    }

    private static string NameOf(byte word) => ((Arm64Register)word).ToString().ToLowerInvariant();
}
