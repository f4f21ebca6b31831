using Iced.Intel;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>Which operand a form shall have, if its instruction can.</summary>
internal enum WantedOperand
{
    Register,
    Memory,
    RipRelative,
    Any,
}

/// <summary>Makes encodings of a code from its template: other registers, addressing forms, immediates, prefixes.</summary>
internal sealed class InstructionForms(Random random)
{
    private const int Tries = 60;
    private readonly byte[] _bytes = new byte[32];

    /// <summary>A form of the template's code with the operand that is wanted, or any if it has none such; null if there is none in 15 bytes.</summary>
    public byte[]? Make(InstructionTemplate template, WantedOperand wanted)
    {
        byte[]? other = null;
        for (int i = 0; i < Tries; i++)
        {
            random.NextBytes(_bytes);
            Mutate(template, wanted, keepModRm: i > Tries / 2 && (i & 1) == 0);
            Decoder decoder = Decoder.Create(64, _bytes[..15], 0x2000_0080);
            decoder.Decode(out Instruction instruction);
            if (decoder.LastError != DecoderError.None || instruction.Code != template.Code)
            {
                continue;
            }

            byte[] found = _bytes[..instruction.Length];
            if (Fits(instruction, wanted))
            {
                return found;
            }

            other ??= found;
        }

        return other ?? Shortest(template);
    }

    private static byte[]? Shortest(InstructionTemplate template)
    {
        Decoder decoder = Decoder.Create(64, template.Bytes, 0x2000_0080);
        decoder.Decode(out Instruction instruction);
        return instruction.Code == template.Code ? template.Bytes[..instruction.Length] : null;
    }

    private static bool Fits(in Instruction instruction, WantedOperand wanted)
    {
        bool memory = false;
        for (int i = 0; i < instruction.OpCount; i++)
        {
            memory |= instruction.GetOpKind(i) == OpKind.Memory;
        }

        return wanted switch
        {
            WantedOperand.Register => !memory,
            WantedOperand.Memory => memory && !instruction.IsIPRelativeMemoryOperand,
            WantedOperand.RipRelative => instruction.IsIPRelativeMemoryOperand,
            _ => true,
        };
    }

    private void Mutate(InstructionTemplate template, WantedOperand wanted, bool keepModRm)
    {
        int at = template.Bytes[0] switch
        {
            0x62 when template.ModRmOffset == 5 => MutateEvex(template.Bytes),
            0xc4 when template.ModRmOffset == 4 => MutateVex(template.Bytes),
            0x8f when template.ModRmOffset == 4 => MutateVex(template.Bytes),
            _ => MutateLegacy(template),
        };

        // Tail bytes are random already; the ModRM byte has the operand's kind.
        byte modRm = _bytes[at];
        if (keepModRm || random.Next(3) == 0)
        {
            modRm = (byte)((modRm & 0xc7) | (template.Bytes[template.ModRmOffset] & 0x38));
        }

        modRm = wanted switch
        {
            WantedOperand.Register => (byte)(modRm | 0xc0),
            WantedOperand.RipRelative => (byte)((modRm & 0x38) | 5),
            WantedOperand.Memory when modRm >= 0xc0 => (byte)(modRm & (0x3f | (random.Next(3) << 6))),
            _ => modRm,
        };
        _bytes[at] = keepModRm && random.Next(2) == 0 ? template.Bytes[template.ModRmOffset] : modRm;
    }

    private int MutateVex(byte[] template)
    {
        template.AsSpan(0, 4).CopyTo(_bytes);
        _bytes[1] = (byte)((template[1] & 0x1f) | (random.Next(8) << 5));
        if (random.Next(2) == 0)
        {
            _bytes[2] = (byte)((template[2] & 0x87) | (random.Next(16) << 3));
        }

        return Prefixed(4, [0x67, 0x64, 0x65, 0x2e]);
    }

    private int MutateEvex(byte[] template)
    {
        template.AsSpan(0, 5).CopyTo(_bytes);
        _bytes[1] = (byte)((template[1] & 0x0f) | (random.Next(16) << 4));
        if (random.Next(2) == 0)
        {
            _bytes[2] = (byte)((template[2] & 0x87) | (random.Next(16) << 3));
        }

        // z, b, V', aaa; the length stays.
        _bytes[3] = (byte)((template[3] & 0x60) | (random.Next(2) == 0 ? template[3] & 0x9f : random.Next(256) & 0x9f));
        return Prefixed(5, [0x67, 0x64, 0x65, 0x2e]);
    }

    private int MutateLegacy(InstructionTemplate template)
    {
        // The template's own prefixes, some more, perhaps a REX, the opcode.
        ReadOnlySpan<byte> bytes = template.Bytes;
        int read = 0;
        int at = 0;
        while (IsPrefix(bytes[read]) && read < template.ModRmOffset - 1)
        {
            _bytes[at++] = bytes[read++];
        }

        ReadOnlySpan<byte> more = [0x67, 0x66, 0x2e, 0x3e, 0x26, 0x36, 0x64, 0x65, 0xf2, 0xf3, 0xf0, 0x67];
        while (at < 4 && random.Next(4) == 0)
        {
            byte prefix = more[random.Next(more.Length)];
            if (_bytes.AsSpan(0, at).IndexOf(prefix) < 0)
            {
                _bytes[at++] = prefix;
            }
        }

        byte rex = (bytes[read] & 0xf0) == 0x40 && read < template.ModRmOffset - 1 ? bytes[read++] : (byte)0;
        if (random.Next(2) == 0)
        {
            rex = (byte)(0x40 | (rex & 8) | random.Next(random.Next(4) == 0 ? 16 : 8));
        }

        if (rex != 0)
        {
            _bytes[at++] = rex;
        }

        int opcode = template.ModRmOffset - read;
        bytes.Slice(read, opcode).CopyTo(_bytes.AsSpan(at));
        at += opcode;

        // A register in the opcode's low bits.
        if (random.Next(3) == 0)
        {
            _bytes[at - 1] = (byte)((_bytes[at - 1] & 0xf8) | random.Next(8));
        }

        return at;
    }

    private int Prefixed(int length, ReadOnlySpan<byte> prefixes)
    {
        if (random.Next(5) != 0)
        {
            return length;
        }

        byte prefix = prefixes[random.Next(prefixes.Length)];
        _bytes.AsSpan(0, length).CopyTo(_bytes.AsSpan(1));
        _bytes[0] = prefix;
        return length + 1;
    }

    private static bool IsPrefix(byte value) => value is 0x66 or 0x67 or 0xf0 or 0xf2 or 0xf3 or 0x26 or 0x2e or 0x36 or 0x3e or 0x64 or 0x65;
}
