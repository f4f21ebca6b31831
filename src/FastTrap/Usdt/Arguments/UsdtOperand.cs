using System.Globalization;
using System.Text;
using FastTrap.Isa;

namespace FastTrap.Usdt;

/// <summary>What an operand is.</summary>
internal enum UsdtOperandKind : byte
{
    Constant,
    Register,
    Vector,
    Memory,
}

/// <summary>How an index register becomes 64 bits.</summary>
internal enum UsdtIndexExtension : byte
{
    None,
    SignWord,
    ZeroWord,
}

/// <summary>
/// One operand of an argument string, with symbols resolved: where the assembler would have found the value. Registers are numbered by their word in
/// <see cref="RegisterSet"/>, vector registers by themselves.
/// </summary>
internal struct UsdtOperand()
{
    public const byte NoRegister = DisplacedInstruction.NoRegister;

    public UsdtOperandKind Kind { get; set; }

    /// <summary>The register; of memory, the base.</summary>
    public byte Register { get; set; } = NoRegister;

    /// <summary>Bytes of the register that the name means.</summary>
    public byte Width { get; set; } = 8;

    /// <summary>Bits to the right of the part which the name means: 8 for <c>ah</c>.</summary>
    public byte Shift { get; set; }

    public byte Index { get; set; } = NoRegister;

    public byte Scale { get; set; } = 1;

    public UsdtIndexExtension Extension { get; set; }

    /// <summary>The register with the base of the segment.</summary>
    public byte Segment { get; set; } = NoRegister;

    /// <summary>The constant, or the displacement.</summary>
    public ulong Value { get; set; }

    /// <summary>Whether addresses are computed in 32 bits.</summary>
    public bool IsNarrow { get; set; }

    /// <summary>The operand in words of no assembler: <c>rdi</c>, <c>[rbp-0x18]</c>, <c>[rax+rbx*8+0x10]</c>.</summary>
    public string Text { get; set; } = "";

    /// <summary>The address of a memory operand.</summary>
    public readonly ulong GetAddress(in RegisterSet registers)
    {
        ReadOnlySpan<ulong> words = System.Runtime.CompilerServices.Unsafe.AsRef(in registers).Words;
        ulong address = Value;
        if (Register != NoRegister)
        {
            address += words[Register];
        }

        if (Index != NoRegister)
        {
            ulong index = words[Index];
            index = Extension switch
            {
                UsdtIndexExtension.SignWord => (ulong)(int)index,
                UsdtIndexExtension.ZeroWord => (uint)index,
                _ => index,
            };
            address += index * Scale;
        }

        address = IsNarrow ? (uint)address : address;
        return Segment == NoRegister ? address : address + words[Segment];
    }

    /// <summary>Writes a memory operand down.</summary>
    public static string Describe(string segment, string register, string index, int scale, string symbol, ulong offset)
    {
        StringBuilder text = new("[");
        text.Append(segment);
        int start = text.Length;
        Append(text, start, register);
        Append(text, start, scale == 1 || index.Length == 0 ? index : $"{index}*{scale}");
        Append(text, start, symbol);
        if (offset != 0 || text.Length == start)
        {
            bool isNegative = (long)offset < 0 && offset != 1UL << 63;
            text.Append(isNegative ? "-" : text.Length == start ? "" : "+")
                .Append("0x").Append((isNegative ? 0 - offset : offset).ToString("x", CultureInfo.InvariantCulture));
        }

        return text.Append(']').ToString();
    }

    private static void Append(StringBuilder text, int start, string part)
    {
        if (part.Length != 0)
        {
            text.Append(text.Length == start ? "" : "+").Append(part);
        }
    }
}
