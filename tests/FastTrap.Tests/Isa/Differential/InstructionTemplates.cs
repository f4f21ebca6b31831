using Iced.Intel;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>One encoding of one <see cref="Code"/>: its bytes up to the opcode are what makes it that code.</summary>
/// <param name="Code">What it is.</param>
/// <param name="Bytes">An encoding, padded to 15 bytes.</param>
/// <param name="ModRmOffset">Where the byte behind the opcode stands: the ModRM byte, if there is one.</param>
internal sealed record InstructionTemplate(Code Code, byte[] Bytes, int ModRmOffset);

/// <summary>A template for every instruction of 64-bit mode, found by a walk over the whole opcode space.</summary>
internal static class InstructionTemplates
{
    private static readonly Lazy<Dictionary<Code, InstructionTemplate>> s_all = new(static () => new Walk().Run());

    public static IReadOnlyDictionary<Code, InstructionTemplate> All => s_all.Value;

    /// <summary>The codes which processors with the decoder's default options have in 64-bit mode.</summary>
    public static IEnumerable<Code> Expected => Enum.GetValues<Code>().Where(code =>
    {
        OpCodeInfo info = code.ToOpCode();

        // wait and its successor are two instructions to a processor; the decoder reads every rep montmul as one of the other widths.
        return info.IsInstruction && info.Mode64 && info.IntelDecoder64 && info.DecoderOption == DecoderOptions.None && info.Encoding != EncodingKind.MVEX
            && !info.Fwait && code != Code.Montmul_64;
    });

    private sealed class Walk
    {
        private readonly Dictionary<Code, InstructionTemplate> _found = [];
        private readonly byte[] _bytes = new byte[15];
        private readonly ByteArrayCodeReader _reader;
        private readonly Decoder _decoder;

        public Walk()
        {
            _reader = new ByteArrayCodeReader(_bytes);
            _decoder = Decoder.Create(64, _reader);
        }

        public Dictionary<Code, InstructionTemplate> Run()
        {
            WalkLegacy();
            WalkVex(0xc4, [1, 2, 3]);
            WalkVex(0x8f, [8, 9, 10]);
            WalkEvex();
            Walk3DNow();
            return _found;
        }

        private void Visit(int modRmOffset)
        {
            _reader.Position = 0;
            _decoder.IP = 0x1000;
            _decoder.Decode(out Instruction instruction);
            if (!instruction.IsInvalid && !_found.ContainsKey(instruction.Code))
            {
                _found.Add(instruction.Code, new InstructionTemplate(instruction.Code, [.. _bytes], modRmOffset));
            }
        }

        private void WalkLegacy()
        {
            byte[][] maps = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
            foreach (byte second in (ReadOnlySpan<byte>)[0, 0x67, 0x66])
            {
                foreach (byte prefix in (ReadOnlySpan<byte>)[0, 0x66, 0xf2, 0xf3])
                {
                    foreach (byte rex in (ReadOnlySpan<byte>)[0, 0x48, 0x41])
                    {
                        foreach (byte[] map in maps)
                        {
                            _bytes.AsSpan().Clear();
                            int at = 0;
                            Add(ref at, second);
                            Add(ref at, prefix);
                            Add(ref at, rex);
                            map.CopyTo(_bytes.AsSpan(at));
                            at += map.Length;
                            for (int i = 0; i < 65536; i++)
                            {
                                if (!IsOpcode(map, (byte)(i >> 8), (byte)i))
                                {
                                    continue;
                                }

                                _bytes[at] = (byte)(i >> 8);
                                _bytes[at + 1] = (byte)i;
                                Visit(at + 1);
                            }
                        }
                    }
                }
            }
        }

        /// <summary>False for what leads to another map, or comes before the opcode.</summary>
        private static bool IsOpcode(byte[] map, byte value, byte next) => map.Length switch
        {
            0 => value is not (0x0f or 0x66 or 0x67 or 0xf0 or 0xf2 or 0xf3 or 0x26 or 0x2e or 0x36 or 0x3e or 0x64 or 0x65 or 0x62 or 0xc4 or 0xc5)
                && (value & 0xf0) != 0x40 && (value != 0x8f || (next & 0x38) == 0),
            1 => value is not (0x0f or 0x38 or 0x3a),
            _ => true,
        };

        private void WalkVex(byte escape, byte[] maps)
        {
            foreach (byte map in maps)
            {
                _bytes.AsSpan().Clear();
                _bytes[0] = escape;
                _bytes[1] = (byte)(0xe0 | map);
                _bytes[5] = 0x20;

                // W, L, pp; vvvv all ones or not.
                for (int w = 0; w < 32; w++)
                {
                    _bytes[2] = (byte)(((w & 8) << 4) | ((w & 16) == 0 ? 0x78 : 0x40) | (w & 7));
                    for (int i = 0; i < 65536; i += (i & 0xff) < 0xc0 ? 4 : 1)
                    {
                        _bytes[3] = (byte)(i >> 8);
                        _bytes[4] = (byte)i;
                        Visit(4);
                    }
                }
            }
        }

        private void WalkEvex()
        {
            _bytes.AsSpan().Clear();
            _bytes[0] = 0x62;
            _bytes[6] = 0x20;
            foreach (byte map in (ReadOnlySpan<byte>)[1, 2, 3, 5, 6])
            {
                for (int variant = 0; variant < 256; variant++)
                {
                    // W, pp, vvvv all ones or not; L'L, b, and a mask register (gathers must have one).
                    _bytes[1] = (byte)(0xf0 | map);
                    _bytes[2] = (byte)(((variant & 1) << 7) | 0x04 | ((variant >> 1) & 3) | ((variant & 8) != 0 ? 0x78 : 0x60));
                    _bytes[3] = (byte)(((variant >> 4) & 3) << 5 | ((variant & 0x40) >> 2) | 0x08 | ((variant & 0x80) != 0 ? 1 : 0));
                    for (int i = 0; i < 256 * 16; i++)
                    {
                        int modRm = i & 15;
                        _bytes[4] = (byte)(i >> 4);
                        _bytes[5] = (byte)(((modRm & 7) << 3) | (modRm < 8 ? 0x04 : 0xc3));
                        Visit(5);
                    }
                }
            }
        }

        /// <summary>The opcode stands behind the operands.</summary>
        private void Walk3DNow()
        {
            _bytes.AsSpan().Clear();
            _bytes[0] = _bytes[1] = 0x0f;
            _bytes[2] = 0xc1;
            for (int opcode = 0; opcode < 256; opcode++)
            {
                _bytes[3] = (byte)opcode;
                Visit(2);
            }
        }

        private void Add(ref int at, byte value)
        {
            if (value != 0)
            {
                _bytes[at++] = value;
            }
        }
    }
}
