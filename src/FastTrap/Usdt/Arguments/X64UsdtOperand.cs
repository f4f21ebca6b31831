namespace FastTrap.Usdt;

/// <summary>Operands of x86-64 in the syntax of AT&amp;T: <c>$5</c>, <c>%eax</c>, <c>-4(%rbp)</c>, <c>8(%rax,%rbx,4)</c>, <c>sym+4(%rip)</c>, <c>%fs:-8</c>.</summary>
internal static class X64UsdtOperand
{
    private static readonly Dictionary<string, (byte Word, byte Width, byte Shift)> s_registers = MakeRegisters();

    public static bool TryParse(UsdtExpression expression, out UsdtOperand operand, out string reason)
    {
        operand = new UsdtOperand();
        string text = expression.Text;
        if (text.StartsWith('$'))
        {
            return TryParseConstant(expression, ref operand, out reason);
        }

        ReadOnlySpan<char> rest = text;
        string segment = "";
        int colon = text.IndexOf(':', StringComparison.Ordinal);
        if (colon > 0)
        {
            segment = text[..colon].Trim();
            if (segment is "%fs" or "%gs")
            {
                operand.Segment = (byte)(segment == "%fs" ? X64Register.FsBase : X64Register.GsBase);
            }
            else if (segment is not ("%ds" or "%es" or "%cs" or "%ss"))
            {
                reason = $"the segment {UsdtArgumentParser.Shorten(segment)} is unknown";
                return false;
            }

            rest = rest[(colon + 1)..].Trim();
        }
        else if (rest is ['%', ..])
        {
            return TryParseRegister(text, ref operand, out reason);
        }

        segment = operand.Segment == UsdtOperand.NoRegister ? "" : segment[1..] + ":";
        return TryParseMemory(expression, rest, segment, ref operand, out reason);
    }

    private static bool TryParseConstant(UsdtExpression expression, ref UsdtOperand operand, out string reason)
    {
        if (!expression.TryParseSum(expression.Text.AsSpan(1), out ulong value, out _, out _, out reason))
        {
            return false;
        }

        operand.Kind = UsdtOperandKind.Constant;
        operand.Value = value;
        operand.Text = expression.Text[1..];
        return true;
    }

    private static bool TryParseRegister(string text, ref UsdtOperand operand, out string reason)
    {
        string name = text[1..].Trim().ToLowerInvariant();
        reason = $"the register {UsdtArgumentParser.Shorten(text)} is unknown, or cannot be read";
        if (name.Length > 3 && name[0] is 'x' or 'y' && name.AsSpan(1).StartsWith("mm"))
        {
            // Only the sixteen that every kernel shows in the same place.
            if (!byte.TryParse(name.AsSpan(3), System.Globalization.NumberStyles.None, null, out byte number) || number > 15)
            {
                return false;
            }

            operand.Kind = UsdtOperandKind.Vector;
            operand.Register = number;
            operand.Width = (byte)(name[0] == 'x' ? 16 : 32);
            operand.Text = name;
            return true;
        }

        if (!s_registers.TryGetValue(name, out (byte Word, byte Width, byte Shift) found))
        {
            return false;
        }

        operand.Kind = UsdtOperandKind.Register;
        (operand.Register, operand.Width, operand.Shift) = found;
        operand.Text = found.Shift != 0 ? name : NameOf(found.Word);
        return true;
    }

    private static bool TryParseMemory(UsdtExpression expression, ReadOnlySpan<char> text, string segment, ref UsdtOperand operand, out string reason)
    {
        operand.Kind = UsdtOperandKind.Memory;
        int open = text.IndexOf('(');
        ReadOnlySpan<char> sum = open < 0 ? text : text[..open];
        string name = "";
        ulong value = 0;
        ulong offset = 0;
        reason = $"{UsdtArgumentParser.Shorten(expression.Text)} is not understood";
        if (sum.IsWhiteSpace() ? open < 0 : !expression.TryParseSum(sum, out value, out name, out offset, out reason))
        {
            return false;
        }

        operand.Value = value;

        string baseName = "";
        string indexName = "";
        if (open >= 0 && !TryParseParts(text[open..], name.Length != 0, ref operand, out baseName, out indexName))
        {
            reason = $"{UsdtArgumentParser.Shorten(expression.Text)} is not understood";
            return false;
        }

        operand.Text = UsdtOperand.Describe(segment, baseName, indexName, operand.Scale, name, offset);
        reason = "";
        return true;
    }

    /// <summary>Reads <c>(base,index,scale)</c>, each of which may be missing.</summary>
    private static bool TryParseParts(ReadOnlySpan<char> text, bool hasSymbol, ref UsdtOperand operand, out string baseName, out string indexName)
    {
        baseName = indexName = "";
        if (text[^1] != ')')
        {
            return false;
        }

        string[] parts = text[1..^1].ToString().Split(',');
        if (parts.Length > 3)
        {
            return false;
        }

        string first = parts[0].Trim();
        if (first == "%rip" && hasSymbol && parts.Length == 1)
        {
            // The symbol's address is meant, and that is the sum already.
            return true;
        }

        if (first.Length != 0)
        {
            if (!TryGetAddressRegister(first, ref operand, out byte word))
            {
                return false;
            }

            operand.Register = word;
            baseName = NameOf(word);
        }

        if (parts.Length > 1 && parts[1].Trim() is { Length: > 0 } second)
        {
            if (!TryGetAddressRegister(second, ref operand, out byte word) || word is (byte)X64Register.Rsp or (byte)X64Register.Rip)
            {
                return false;
            }

            operand.Index = word;
            indexName = NameOf(word);
        }

        if (parts.Length > 2)
        {
            if (!byte.TryParse(parts[2].Trim(), System.Globalization.NumberStyles.None, null, out byte scale) || scale is not (1 or 2 or 4 or 8))
            {
                return false;
            }

            operand.Scale = scale;
        }

        return first.Length != 0 || indexName.Length != 0;
    }

    private static bool TryGetAddressRegister(string text, ref UsdtOperand operand, out byte word)
    {
        word = UsdtOperand.NoRegister;
        if (!text.StartsWith('%') || !s_registers.TryGetValue(text[1..].ToLowerInvariant(), out (byte Word, byte Width, byte Shift) found) || found.Width < 4)
        {
            return false;
        }

        operand.IsNarrow |= found.Width == 4;
        word = found.Word;
        return true;
    }

    private static string NameOf(byte word) => ((X64Register)word).ToString().ToLowerInvariant();

    private static Dictionary<string, (byte Word, byte Width, byte Shift)> MakeRegisters()
    {
        Dictionary<string, (byte, byte, byte)> registers = [];
        void Add(X64Register register, byte width, params string[] names)
        {
            foreach (string name in names)
            {
                registers.Add(name, ((byte)register, width, 0));
            }
        }

        foreach ((X64Register register, string letter) in new[]
        {
            (X64Register.Rax, "a"), (X64Register.Rbx, "b"), (X64Register.Rcx, "c"), (X64Register.Rdx, "d"),
        })
        {
            Add(register, 8, $"r{letter}x");
            Add(register, 4, $"e{letter}x");
            Add(register, 2, $"{letter}x");
            Add(register, 1, $"{letter}l");
            registers.Add($"{letter}h", ((byte)register, 1, 8));
        }

        foreach ((X64Register register, string name) in new[]
        {
            (X64Register.Rsi, "si"), (X64Register.Rdi, "di"), (X64Register.Rbp, "bp"), (X64Register.Rsp, "sp"),
        })
        {
            Add(register, 8, $"r{name}");
            Add(register, 4, $"e{name}");
            Add(register, 2, name);
            Add(register, 1, $"{name}l");
        }

        for (int number = 8; number < 16; number++)
        {
            X64Register register = Enum.Parse<X64Register>($"R{number}");
            Add(register, 8, $"r{number}");
            Add(register, 4, $"r{number}d");
            Add(register, 2, $"r{number}w");
            Add(register, 1, $"r{number}b", $"r{number}l");
        }

        Add(X64Register.Rip, 8, "rip");
        Add(X64Register.Rip, 4, "eip");
        return registers;
    }
}
