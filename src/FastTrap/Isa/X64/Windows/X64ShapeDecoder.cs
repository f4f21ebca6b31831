using System.Runtime.CompilerServices;

namespace FastTrap.Isa.X64;

/// <summary>
/// Lengths and flow of instructions in 64-bit mode, and nothing else: some ten times faster than a full decoder, from the first call on.
/// Bytes that are no instruction may pass for one; what is to be moved is decoded in full. Immutable; any thread.
/// </summary>
internal sealed unsafe class X64ShapeDecoder
{
    /// <summary>Bytes that must be readable from the first byte of an instruction.</summary>
    public const int Lookahead = 32;

    private const byte ModRm = 1;
    private const byte Byte = 2;
    private const byte Full = 4;
    private const byte Word = 8;
    private const byte Relative = 16;
    private const byte Special = 32;
    private const byte Invalid = 64;

    private readonly byte[] _oneByte = OneByteMap();
    private readonly byte[] _twoBytes = TwoByteMap();

    /// <summary>Reads the instruction at <paramref name="code"/>, of which <see cref="Lookahead"/> bytes can be read.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Decode(byte* code, out X64Shape shape)
    {
        shape = default;
        byte* at = code;
        bool operandSize = false;
        byte repeat = 0;
        int rex = 0;
        byte opcode;
        while (true)
        {
            opcode = *at++;
            if (opcode is 0x66)
            {
                operandSize = true;
            }
            else if (opcode is 0xf2 or 0xf3)
            {
                repeat = opcode;
            }
            else if (opcode is not (0x26 or 0x2e or 0x36 or 0x3e or 0x64 or 0x65 or 0x67 or 0xf0))
            {
                if ((opcode & 0xf0) != 0x40)
                {
                    break;
                }

                rex = opcode;
                opcode = *at++;
                if (opcode is not ((>= 0x40 and <= 0x4f) or 0x26 or 0x2e or 0x36 or 0x3e or 0x64 or 0x65 or 0x66 or 0x67 or 0xf0 or 0xf2 or 0xf3))
                {
                    break;
                }

                // A prefix behind it takes away its effect.
                rex = 0;
                at--;
            }

            if (at - code > 14)
            {
                shape.Flow = X64Flow.Bad;
                return;
            }
        }

        byte kind = _oneByte[opcode];
        bool wide = (rex & 8) != 0;
        if (opcode == 0x0f)
        {
            opcode = *at++;
            kind = _twoBytes[opcode];
            if ((kind & Special) != 0)
            {
                if (opcode is 0x38 or 0x3a)
                {
                    kind = opcode == 0x38 ? ModRm : (byte)(ModRm | Byte);
                    at++;
                }
                else
                {
                    shape.Flow = X64Flow.Stop;
                    kind = opcode == 0x0b ? (byte)0 : ModRm;
                }
            }
            else if (opcode == 0x1e && repeat == 0xf3 && *at == 0xfa)
            {
                shape.Flow = X64Flow.BranchTarget;
            }
            else if (opcode == 0x1f)
            {
                shape.Flow = X64Flow.Filler;
            }
            else if ((kind & Relative) != 0)
            {
                shape.Flow = X64Flow.Branch;
            }
        }
        else if ((kind & Special) != 0)
        {
            switch (opcode)
            {
                case 0x62 or 0xc4 or 0xc5:
                    DecodeVector(opcode, ref at, ref kind);
                    break;
                case 0x8f:
                    kind = (*at & 0x38) == 0 ? ModRm : Invalid;
                    break;
                case >= 0xa0 and <= 0xa3:
                    at += HasPrefix(code, at, 0x67) ? 4 : 8;
                    kind = 0;
                    break;
                case >= 0xb8 and <= 0xbf:
                    shape.ImmediateOffset = wide || operandSize ? (byte)0 : (byte)(at - code);
                    at += wide ? 8 : operandSize ? 2 : 4;
                    kind = 0;
                    break;
                case 0xf6:
                    kind = (*at & 0x30) == 0 ? (byte)(ModRm | Byte) : ModRm;
                    break;
                case 0xf7:
                    kind = (*at & 0x30) == 0 ? (byte)(ModRm | Full) : ModRm;
                    break;
                case 0xff:
                    kind = ModRm;
                    shape.Flow = (*at & 0x38) switch
                    {
                        0x10 => X64Flow.IndirectCall,
                        0x20 => X64Flow.IndirectJump,
                        0x18 or 0x28 or 0x38 => X64Flow.Bad,
                        _ => X64Flow.Next,
                    };
                    break;
                case 0xc2 or 0xc3:
                    shape.Flow = X64Flow.Return;
                    kind = opcode == 0xc2 ? Word : (byte)0;
                    break;
                case 0x90:
                    shape.Flow = (rex & 1) == 0 && repeat == 0 ? X64Flow.Filler : X64Flow.Next;
                    kind = 0;
                    break;
                case 0xcc:
                    shape.Flow = X64Flow.Filler;
                    kind = 0;
                    break;
                case 0xf4:
                    shape.Flow = X64Flow.Stop;
                    kind = 0;
                    break;
                case 0xc8:
                    at += 3;
                    kind = 0;
                    break;
                case 0xe8:
                    shape.Flow = X64Flow.Call;
                    kind = Full | Relative;
                    break;
                case 0xe9 or 0xeb:
                    shape.Flow = X64Flow.Jump;
                    kind = opcode == 0xe9 ? (byte)(Full | Relative) : (byte)(Byte | Relative);
                    break;
                case 0xc7:
                    // xbegin is c7 f8.
                    kind = *at == 0xf8 ? (byte)(ModRm | Full | Relative) : (byte)(ModRm | Full);
                    shape.Flow = *at == 0xf8 ? X64Flow.Branch : X64Flow.Next;
                    break;
                default:
                    kind = Invalid;
                    break;
            }
        }
        else if ((kind & Relative) != 0)
        {
            shape.Flow = X64Flow.Branch;
        }

        if (kind == Invalid)
        {
            shape.Flow = X64Flow.Bad;
            return;
        }

        if ((kind & ModRm) != 0)
        {
            int modRm = *at++;
            int mode = modRm >> 6;
            if (mode != 3)
            {
                if ((modRm & 7) == 4)
                {
                    int sib = *at++;
                    if (mode == 0 && (sib & 7) == 5)
                    {
                        at += 4;
                    }
                }
                else if (mode == 0 && (modRm & 7) == 5)
                {
                    shape.RipOffset = (byte)(at - code);
                    shape.TakesAddress = opcode == 0x8d && kind == ModRm;
                    at += 4;
                }

                at += mode == 1 ? 1 : mode == 2 ? 4 : 0;
            }
        }

        if ((kind & Relative) != 0)
        {
            shape.RelativeLength = (byte)((kind & Full) != 0 ? 4 : 1);
            at += shape.RelativeLength;

            // Processors of different makers cut the target, or do not.
            if (operandSize && !wide)
            {
                shape.Flow = X64Flow.Bad;
            }
        }
        else if ((kind & Full) != 0)
        {
            bool isShort = operandSize && !wide;
            shape.ImmediateOffset = isShort ? (byte)0 : (byte)(at - code);
            at += isShort ? 2 : 4;
        }

        at += (kind & Relative) == 0 && (kind & Byte) != 0 ? 1 : 0;
        at += (kind & Word) != 0 ? 2 : 0;
        shape.Length = (byte)(at - code);
        if (shape.Length > X64Classifier.MaxInstructionLength)
        {
            shape.Flow = X64Flow.Bad;
        }
    }

    /// <summary>The instructions behind a VEX or EVEX prefix.</summary>
    private void DecodeVector(byte prefix, ref byte* at, ref byte kind)
    {
        int map = prefix == 0xc5 ? 1 : prefix == 0xc4 ? at[0] & 0x1f : at[0] & 7;
        at += prefix == 0xc5 ? 1 : prefix == 0xc4 ? 2 : 3;
        byte opcode = *at++;
        kind = map switch
        {
            1 when opcode == 0x77 && prefix != 0x62 => 0,
            1 => (byte)(ModRm | (_twoBytes[opcode] & Byte)),
            2 or 5 or 6 => ModRm,
            3 => ModRm | Byte,
            _ => Invalid,
        };
        if (map is 5 or 6 && prefix != 0x62)
        {
            kind = Invalid;
        }
    }

    private static bool HasPrefix(byte* from, byte* to, byte prefix)
    {
        for (; from < to; from++)
        {
            if (*from == prefix)
            {
                return true;
            }
        }

        return false;
    }

    private static byte[] OneByteMap()
    {
        byte[] map = new byte[256];
        for (int i = 0; i < 0x40; i += 8)
        {
            Set(map, ModRm, i, i + 3);
            map[i + 4] = Byte;
            map[i + 5] = Full;
            Set(map, Invalid, i + 6, i + 7);
        }

        foreach (int special in new[]
        {
            0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x62, 0xc4, 0xc5, 0x8f, 0xf6, 0xf7, 0xff, 0xc2, 0xc3, 0x90, 0xcc,
            0xf4, 0xc8, 0xe8, 0xe9, 0xeb, 0xc7,
        })
        {
            map[special] = Special;
        }

        Set(map, Special, 0xa0, 0xa3);
        Set(map, Special, 0xb8, 0xbf);
        Set(map, Invalid, 0x60, 0x61);
        map[0x63] = ModRm;
        map[0x68] = Full;
        map[0x69] = ModRm | Full;
        map[0x6a] = Byte;
        map[0x6b] = ModRm | Byte;
        Set(map, Byte | Relative, 0x70, 0x7f);
        map[0x80] = ModRm | Byte;
        map[0x81] = ModRm | Full;
        map[0x82] = Invalid;
        map[0x83] = ModRm | Byte;
        Set(map, ModRm, 0x84, 0x8e);
        map[0xa8] = Byte;
        map[0xa9] = Full;
        Set(map, Byte, 0xb0, 0xb7);
        Set(map, ModRm | Byte, 0xc0, 0xc1);
        map[0xc6] = ModRm | Byte;
        map[0xca] = Word;
        map[0xcd] = Byte;
        Set(map, ModRm, 0xd0, 0xd3);
        Set(map, ModRm, 0xd8, 0xdf);
        Set(map, Byte | Relative, 0xe0, 0xe3);
        Set(map, Byte, 0xe4, 0xe7);
        map[0xfe] = ModRm;
        foreach (int invalid in new[] { 0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea })
        {
            map[invalid] = Invalid;
        }

        return map;
    }

    private static byte[] TwoByteMap()
    {
        byte[] map = new byte[256];
        Array.Fill(map, ModRm);
        Set(map, 0, 0x05, 0x09);
        Set(map, 0, 0x30, 0x37);
        Set(map, 0, 0xc8, 0xcf);
        foreach (int plain in new[] { 0x0e, 0x77, 0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xaa })
        {
            map[plain] = 0;
        }

        foreach (int invalid in new[] { 0x04, 0x0a, 0x0c, 0x0f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x36, 0x39, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x78, 0x79, 0x7a, 0x7b, 0xa6, 0xa7 })
        {
            map[invalid] = Invalid;
        }

        foreach (int immediate in new[] { 0x70, 0x71, 0x72, 0x73, 0xa4, 0xac, 0xba, 0xc2, 0xc4, 0xc5, 0xc6 })
        {
            map[immediate] = ModRm | Byte;
        }

        foreach (int special in new[] { 0x0b, 0x38, 0x3a, 0xb9, 0xff })
        {
            map[special] = Special;
        }

        Set(map, Full | Relative, 0x80, 0x8f);
        return map;
    }

    private static void Set(byte[] map, byte value, int first, int last) => Array.Fill(map, value, first, last - first + 1);
}
