namespace FastTrap.Symbols;

/// <summary>How the canonical frame address is found at one instruction: a register plus an offset, or an expression.</summary>
internal readonly record struct CfaRule(ulong Register, long Offset, bool IsExpression)
{
    /// <summary>
    /// Runs call frame instructions up to the first that moves on to a later address. False when one is not known, so that the rule is not
    /// either.
    /// </summary>
    /// <param name="instructions">The bytes of the program.</param>
    /// <param name="dataAlignment">The factor of signed offsets.</param>
    /// <param name="rule">The rule before, then after.</param>
    public static bool TryRun(ReadOnlySpan<byte> instructions, long dataAlignment, ref CfaRule rule)
    {
        CfiReader reader = new(instructions, 0);
        while (!reader.IsAtEnd)
        {
            byte operation = reader.ReadByte();
            switch (operation)
            {
                case >= 0x40 and < 0x80 or >= 0x01 and <= 0x04 or 0x1d:
                    // DW_CFA_set_loc, the forms of DW_CFA_advance_loc: what follows belongs to later addresses.
                    return !reader.IsPastEnd;
                case 0x00 or 0x0a or 0x0b or 0x2d or >= 0xc0:
                    break;
                case >= 0x80 or 0x06 or 0x07 or 0x08 or 0x2e:
                    reader.ReadUleb();
                    break;
                case 0x05 or 0x09 or 0x11 or 0x14 or 0x15 or 0x2f:
                    reader.ReadUleb();
                    reader.ReadUleb();
                    break;
                case 0x0c:
                    rule = new CfaRule(reader.ReadUleb(), (long)reader.ReadUleb(), false);
                    break;
                case 0x0d:
                    rule = new CfaRule(reader.ReadUleb(), rule.Offset, false);
                    break;
                case 0x0e:
                    rule = rule with { Offset = (long)reader.ReadUleb() };
                    break;
                case 0x0f:
                    reader.Skip(reader.ReadUleb());
                    rule = new CfaRule(0, 0, true);
                    break;
                case 0x10 or 0x16:
                    reader.ReadUleb();
                    reader.Skip(reader.ReadUleb());
                    break;
                case 0x12:
                    rule = new CfaRule(reader.ReadUleb(), unchecked(reader.ReadSleb() * dataAlignment), false);
                    break;
                case 0x13:
                    rule = rule with { Offset = unchecked(reader.ReadSleb() * dataAlignment) };
                    break;
                default:
                    return false;
            }
        }

        return !reader.IsPastEnd;
    }
}
