using FastTrap.Isa;
using FastTrap.Isa.X64;
using Iced.Intel;
using NUnit.Framework;

namespace FastTrap.Tests.Isa;

/// <summary>A walk over the whole opcode space: every instruction there is gets its class, and the class fits the instruction.</summary>
[TestFixture]
internal sealed class X64OpcodeSpaceTests
{
    private const ulong Pc = 0x7f00_1234_5000;
    private const ulong SlotAddress = 0x7f00_2000_0000;
    private readonly Dictionary<Code, DisplacedKind> _kinds = [];
    private readonly byte[] _slot = new byte[64];
    private readonly WindowMemory _memory = new();
    private readonly byte[] _bytes = new byte[15];
    private readonly ByteArrayCodeReader _reader;
    private readonly Decoder _decoder;

    public X64OpcodeSpaceTests()
    {
        _reader = new ByteArrayCodeReader(_bytes);
        _decoder = Decoder.Create(64, _reader);
    }

    [Test]
    public void EveryInstructionIsClassified()
    {
        WalkLegacy();
        WalkVex(0xc4, [1, 2, 3]);
        WalkVex(0x8f, [8, 9, 10]);
        WalkEvex();

        // What processors with the decoder's default options have in 64-bit mode.
        List<Code> expected = [];
        foreach (Code code in Enum.GetValues<Code>())
        {
            OpCodeInfo info = code.ToOpCode();
            if (info.IsInstruction && info.Mode64 && info.IntelDecoder64 && info.DecoderOption == DecoderOptions.None && info.Encoding != EncodingKind.MVEX
                && info.Encoding != EncodingKind.D3NOW)
            {
                expected.Add(code);
            }
        }

        // wait and its successor are two instructions to a processor; the decoder reads every rep montmul as one of the other widths.
        List<Code> missing = [.. expected.Where(code => !_kinds.ContainsKey(code) && !code.ToOpCode().Fwait && code != Code.Montmul_64)];
        TestContext.Out.WriteLine($"{_kinds.Count} codes: {string.Join(", ", _kinds.Values.GroupBy(k => k).Select(g => $"{g.Count()} {g.Key}"))}");
        TestContext.Out.WriteLine($"not reached: {string.Join(' ', missing)}");
        Assert.That(missing, Is.Empty);
        Assert.That(_kinds, Has.Count.GreaterThan(4000));
    }

    private void Visit(ReadOnlySpan<byte> bytes)
    {
        bool decoded = X64InstructionSet.Instance.TryDecode(bytes, Pc, out DisplacedInstruction displaced, out ProbeRefusal reason);
        if (decoded != (displaced.Kind != DisplacedKind.Refused) || decoded != (reason == ProbeRefusal.None))
        {
            Assert.Fail($"{Convert.ToHexString(bytes)}: {decoded}, {displaced.Kind}, {reason}");
        }

        if (reason is ProbeRefusal.Undecodable or ProbeRefusal.Truncated)
        {
            return;
        }

        bytes.CopyTo(_bytes);
        _reader.Position = 0;
        _decoder.IP = Pc;
        Code code = _decoder.Decode().Code;
        if (!_kinds.TryAdd(code, displaced.Kind))
        {
            return;
        }

        if (displaced.Kind == DisplacedKind.Emulated)
        {
            // The memory is all unmapped: done or a fault, but never an exception.
            RegisterSet registers = new(System.Runtime.InteropServices.Architecture.X64);
            EmulationOutcome outcome = X64InstructionSet.Instance.Emulate(displaced, ref registers, _memory, out _);
            bool faults = displaced.Has(DisplacedTraits.ReadsMemory) || displaced.Has(DisplacedTraits.WritesMemory);
            Assert.That(outcome != EmulationOutcome.Done, Is.EqualTo(faults), code.ToString());
        }

        bool built = X64InstructionSet.Instance.TryBuildSlot(displaced, SlotAddress, _slot, out _, out _);
        Assert.That(built, Is.EqualTo(displaced.Has(DisplacedTraits.SlotPossible)), code.ToString());
        FlowControl flow = code.FlowControl();
        if (built)
        {
            bool isKernels = code.Mnemonic() is Mnemonic.Sysret or Mnemonic.Sysretq or Mnemonic.Sysexit or Mnemonic.Sysexitq or Mnemonic.Rsm
                or Mnemonic.Skinit or Mnemonic.Erets or Mnemonic.Eretu;
            bool comesBack = flow is FlowControl.Next or FlowControl.Exception or FlowControl.XbeginXabortXend or FlowControl.Call or FlowControl.Interrupt;
            Assert.That(comesBack || isKernels, Is.True, code.ToString());
        }
    }

    private void WalkLegacy()
    {
        byte[][] maps = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
        Span<byte> bytes = stackalloc byte[15];
        foreach (byte prefix in (ReadOnlySpan<byte>)[0, 0x66, 0xf2, 0xf3])
        {
            foreach (byte rex in (ReadOnlySpan<byte>)[0, 0x48, 0x41])
            {
                foreach (byte second in (ReadOnlySpan<byte>)[0, 0x67, 0x9b, 0x66])
                {
                    foreach (byte[] map in maps)
                    {
                        bytes.Clear();
                        int at = 0;
                        Add(bytes, ref at, second);
                        Add(bytes, ref at, prefix);
                        Add(bytes, ref at, rex);
                        map.CopyTo(bytes[at..]);
                        at += map.Length;
                        for (int i = 0; i < 65536; i++)
                        {
                            // With the second prefix, a sample of the operands is enough.
                            if (second is not (0 or 0x67) && (i & 0x7) is not (0 or 5))
                            {
                                continue;
                            }

                            bytes[at] = (byte)(i >> 8);
                            bytes[at + 1] = (byte)i;
                            Visit(bytes);
                        }
                    }
                }
            }
        }
    }

    private void WalkVex(byte escape, byte[] maps)
    {
        Span<byte> bytes = stackalloc byte[15];
        foreach (byte map in maps)
        {
            for (int w = 0; w < 16; w++)
            {
                bytes.Clear();
                bytes[0] = escape;
                bytes[1] = (byte)(0xe0 | map);

                // W, vvvv all ones or not, L, pp.
                for (int v = 0; v < 2; v++)
                {
                    bytes[2] = (byte)(((w & 8) << 4) | (v == 0 ? 0x78 : 0x40) | (w & 7));
                    for (int i = 0; i < 65536; i++)
                    {
                        bytes[3] = (byte)(i >> 8);
                        bytes[4] = (byte)i;
                        bytes[5] = 0x20;
                        Visit(bytes);
                    }
                }
            }
        }
    }

    private void WalkEvex()
    {
        Span<byte> bytes = stackalloc byte[15];
        bytes[0] = 0x62;
        foreach (byte map in (ReadOnlySpan<byte>)[1, 2, 3, 5, 6])
        {
            for (int variant = 0; variant < 256; variant++)
            {
                // W, pp, vvvv all ones or not; L'L, b, and a mask register (gathers must have one).
                bytes[1] = (byte)(0xf0 | map);
                bytes[2] = (byte)(((variant & 1) << 7) | 0x04 | ((variant >> 1) & 3) | ((variant & 8) != 0 ? 0x78 : 0x60));
                bytes[3] = (byte)(((variant >> 4) & 3) << 5 | ((variant & 0x40) >> 2) | 0x08 | ((variant & 0x80) != 0 ? 1 : 0));
                for (int opcode = 0; opcode < 256; opcode++)
                {
                    for (int modrm = 0; modrm < 16; modrm++)
                    {
                        bytes[4] = (byte)opcode;
                        bytes[5] = (byte)(((modrm & 7) << 3) | (modrm < 8 ? 0x04 : 0xc3));
                        bytes[6] = 0x20;
                        Visit(bytes);
                    }
                }
            }
        }
    }

    private static void Add(Span<byte> bytes, ref int at, byte value)
    {
        if (value != 0)
        {
            bytes[at++] = value;
        }
    }
}
