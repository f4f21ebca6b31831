namespace FastTrap.Isa.X64;

/// <summary>The legacy and REX prefixes of an instruction, as processors read them.</summary>
internal readonly struct X64Prefixes
{
    /// <summary>Reads the prefixes of a whole instruction.</summary>
    public X64Prefixes(ReadOnlySpan<byte> bytes)
    {
        byte rex = 0;
        byte segment = 0;
        foreach (byte value in bytes)
        {
            switch (value)
            {
                case 0x66:
                    OperandSize = true;
                    break;
                case 0x67:
                    AddressSize = true;
                    break;
                case 0xf0:
                    Lock = true;
                    break;
                case 0xf2 or 0xf3:
                    Repeat = value;
                    break;
                case 0x26 or 0x2e or 0x36 or 0x3e or 0x64 or 0x65:
                    if (segment != 0 && segment != value && (segment is 0x64 or 0x65 || value is 0x64 or 0x65))
                    {
                        SegmentsConflict = true;
                    }

                    segment = value;
                    break;
                case >= 0x40 and <= 0x4f:
                    rex = value;
                    Length++;
                    continue;
                default:
                    RexOffset = rex == 0 ? -1 : Length - 1;
                    RexW = (rex & 8) != 0;
                    RexB = (rex & 1) != 0;
                    return;
            }

            // A REX prefix counts only directly before the opcode.
            rex = 0;
            Length++;
        }
    }

    /// <summary>Where they end: at the opcode, or at a VEX, EVEX or XOP prefix.</summary>
    public int Length { get; }

    /// <summary>Where a REX prefix stands that counts; -1 without one.</summary>
    public int RexOffset { get; }

    public bool OperandSize { get; }

    public bool AddressSize { get; }

    public bool Lock { get; }

    /// <summary>F2, F3 or 0.</summary>
    public byte Repeat { get; }

    /// <summary>There are different segment prefixes, one of them FS or GS.</summary>
    public bool SegmentsConflict { get; }

    public bool RexW { get; }

    public bool RexB { get; }
}
