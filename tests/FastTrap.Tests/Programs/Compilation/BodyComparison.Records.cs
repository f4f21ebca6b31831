using System.Buffers.Binary;
using System.Runtime.InteropServices;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Records, with the texts and the stacks in them.</summary>
internal sealed partial class BodyComparison
{
    private string? CompareRecord(
        Span<byte> lane, ProbeProgram program, ProgramAction action, bool passes, in RegisterSet before, bool isReturn, in BodySite site, CompiledBody body)
    {
        int textWords = action.Texts.Sum(t => 1 + WordsOf(t.MaximumLength));
        ulong head = Word(lane, LaneLayout.HeadOffset);
        ulong tail = Word(lane, LaneLayout.TailOffset);
        Span<byte> ring = lane.Slice(machine.Target.Layout.RingStart, machine.Target.Layout.RingLength);
        if (!passes)
        {
            return head == tail ? null : "a record that should not be";
        }

        int at = (int)(tail % (ulong)ring.Length);
        int length = body.RecordLength;
        if (at + length > ring.Length)
        {
            uint filler = BinaryPrimitives.ReadUInt32LittleEndian(ring[at..]);
            if (filler != (LaneLayout.FillerFlag | (uint)(ring.Length - at)))
            {
                return $"the filler is {filler:x}";
            }

            tail += (ulong)(ring.Length - at);
            at = 0;
        }

        if (head - tail != (ulong)length)
        {
            return $"{head - tail} bytes are reserved, not {length}";
        }

        Span<byte> record = ring.Slice(at, length);
        uint thread = BinaryPrimitives.ReadUInt32LittleEndian(record[LaneLayout.RecordThreadOffset..]);
        if (BinaryPrimitives.ReadUInt32LittleEndian(record) != ((uint)length | (length == LaneLayout.RecordLength(program.Outputs.Length + textWords, true) ? LaneLayout.ValidityFlag : 0)) || BinaryPrimitives.ReadUInt32LittleEndian(record[LaneLayout.RecordSiteOffset..]) != site.Id
            || (thread != 0 && thread != machine.ThreadId) || Word(record, LaneLayout.RecordTimeOffset) == 0)
        {
            return $"the header is {Convert.ToHexString(record[..LaneLayout.RecordHeaderLength])}";
        }

        Span<byte> fields = record[LaneLayout.RecordHeaderLength..];
        ulong validity = ulong.MaxValue;
        if (fields.Length != (program.Outputs.Length + textWords) * sizeof(ulong))
        {
            validity = Word(fields, 0);
            fields = fields[sizeof(ulong)..];
        }

        for (int i = 0; i < program.Outputs.Length; i++)
        {
            int output = program.Outputs[i];
            Invalid += _valid[output] ? 0 : 1;
            if ((validity >> i & 1) == 1 != _valid[output] || !AreSame(program.Instructions[output].Type, Word(fields, i * 8), _values[output]))
            {
                return $"output {i} is {Word(fields, i * 8):x} ({validity >> i & 1}), not {_values[output]:x} ({_valid[output]})";
            }
        }

        int text = program.Outputs.Length * sizeof(ulong);
        foreach ((int address, int maximum) in action.Texts)
        {
            byte[] expected = address == RecordLayout.IsStack
                ? MemoryMarshal.AsBytes(StackOf(before, isReturn, site, maximum / sizeof(ulong)).AsSpan()).ToArray()
                : _valid[program.Outputs[address]] ? TextAt(_values[program.Outputs[address]], maximum) : [];
            ulong count = address == RecordLayout.IsStack ? (ulong)expected.Length / sizeof(ulong) : expected.Length == 0 ? RecordLayout.NoText : (ulong)expected.Length;
            Texts += expected.Length == 0 ? 0 : 1;
            if (Word(fields, text) != count || !fields.Slice(text + sizeof(ulong), expected.Length).SequenceEqual(expected))
            {
                return $"text of {address} is {Word(fields, text):x} long, not {count:x}: {Convert.ToHexString(fields[text..])}, not {Convert.ToHexString(expected)}";
            }

            text += (1 + WordsOf(maximum)) * sizeof(ulong);
        }

        return null;
    }

    private static int WordsOf(int length) => (length + sizeof(ulong) - 1) / sizeof(ulong);

    /// <summary>What is there, page by page.</summary>
    private byte[] TextAt(ulong address, int maximum)
    {
        byte[] text = new byte[maximum];
        int read = 0;
        while (read < maximum)
        {
            ulong at = address + (ulong)read;
            int length = (int)Math.Min((ulong)(maximum - read), 4096 - (at % 4096));
            if (!machine.TryRead(at, text.AsSpan(read, length)))
            {
                break;
            }

            read += length;
        }

        return text[..read];
    }

    private ulong[] StackOf(in RegisterSet registers, bool isReturn, in BodySite site, int depth)
    {
        bool isX64 = machine.Architecture == Architecture.X64;
        ulong mask = isX64 ? ulong.MaxValue : (1UL << 48) - 1;
        List<ulong> frames = [site.Address];
        ulong word = isX64 ? 0 : registers[Arm64Register.X30];
        if ((isReturn || site.Address == site.FunctionAddress) && (!isX64 || TryReadWord(registers.StackPointer, out word)))
        {
            frames.Add(word & mask);
        }

        ulong above = registers.StackPointer;
        for (ulong frame = registers.FramePointer; frame >= above && frame - above < 1 << 20 && frame % 8 == 0 && TryReadWord(frame, out ulong next) && TryReadWord(frame + 8, out ulong caller)
            && caller > 4096 && frames.Count < depth; frame = next)
        {
            frames.Add(caller & mask);
            above = frame + 16;
        }

        Frames += frames.Count;
        return [.. frames.Take(depth)];
    }

    private bool TryReadWord(ulong address, out ulong word)
    {
        word = 0;
        return machine.TryRead(address, MemoryMarshal.AsBytes(new Span<ulong>(ref word)));
    }

    /// <summary>Texts at outputs that can be addresses, and stacks; few, for the ring is short.</summary>
    private List<(int AddressOutput, int MaximumLength)> NextTexts(ProbeProgram program)
    {
        List<(int AddressOutput, int MaximumLength)> texts = [];
        for (int i = 0; i < program.Outputs.Length && texts.Count < 3; i++)
        {
            if (program.Instructions[program.Outputs[i]].Type == ProgramType.UInt64)
            {
                texts.Add((i, random.Next(1, 60)));
            }
        }

        texts.Insert(random.Next(texts.Count + 1), (RecordLayout.IsStack, sizeof(ulong) * random.Next(1, 8)));
        return texts;
    }

    /// <summary>Which of several operands that are no numbers comes out is nobody's promise.</summary>
    private static bool AreSame(ProgramType type, ulong a, ulong b) =>
        a == b || (type == ProgramType.Double && double.IsNaN(BitConverter.UInt64BitsToDouble(a)) && double.IsNaN(BitConverter.UInt64BitsToDouble(b)));

    /// <summary>A row of frames, perhaps with one that is none.</summary>
    private void NextFrames(ref RegisterSet registers, bool isX64)
    {
        ulong frame = registers.StackPointer + (ulong)(random.Next(4) * 16);
        if (isX64)
        {
            registers[X64Register.Rbp] = frame;
        }
        else
        {
            registers[Arm64Register.X0 + 29] = frame;
        }

        for (int i = random.Next(8); i >= 0; i--)
        {
            ulong next = i == 0 ? _programs.NextValue() : frame + 16 + (ulong)(random.Next(5) * (random.Next(12) == 0 ? 4 : 16));
            int at = (int)(frame - machine.StackAddress);
            BinaryPrimitives.WriteUInt64LittleEndian(machine.Stack[at..], next);
            BinaryPrimitives.WriteUInt64LittleEndian(machine.Stack[(at + 8)..], random.Next(16) == 0 ? 4096UL : (ulong)random.NextInt64());
            if (next < registers.StackPointer || next - machine.StackAddress > 8000)
            {
                break;
            }

            frame = next;
        }
    }
}
