using System.Buffers.Binary;
using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using Iced.Intel;
using NUnit.Framework;

namespace FastTrap.Tests.Isa;

/// <summary>The emulator against the processor: random encodings of every emulated form, in random states; everything must be equal.</summary>
[TestFixture]
[NonParallelizable]
internal sealed class X64EmulatorDifferentialTests : IDisposable
{
    private const int StatesPerEncoding = 6;
    private readonly WindowMemory _memory = new();
    private NativeRunner _native = null!;
    private Random _random = null!;
    private byte[] _data = null!;
    private byte[] _stack = null!;
    private ulong _target;
    private ulong _fsBase;

    [OneTimeSetUp]
    public void SetUp()
    {
        if (RuntimeInformation.ProcessArchitecture != System.Runtime.InteropServices.Architecture.X64)
        {
            Assert.Ignore("The oracle is an x86-64 processor, and this machine has none.");
        }

        _native = new NativeRunner();
        _data = _memory.Add(_native.DataAddress, _native.Data);
        _stack = _memory.Add(_native.StackAddress, _native.Stack);
    }

    [OneTimeTearDown]
    public void Dispose() => _native?.Dispose();

    /// <summary>Opcodes by family; the random part is prefixes, REX, ModRM, SIB, displacement and immediate.</summary>
    private static IEnumerable<TestCaseData> Families()
    {
        yield return Family("jcc rel8", 3000, [.. Range(0x70, 16)]);
        yield return Family("jcc rel32", 3000, [.. Range2(0x80, 16)]);
        yield return Family("loop jrcxz", 3000, [0xe0], [0xe1], [0xe2], [0xe3]);
        yield return Family("jmp call rel", 2000, [0xeb], [0xe9], [0xe8]);
        yield return Family("ret", 1500, [0xc3], [0xc2]);
        yield return Family("group 5: indirect jmp call push inc dec", 20000, [0xff]);
        yield return Family("push pop", 6000, [.. Range(0x50, 16), [0x68], [0x6a], [0x8f]]);
        yield return Family("leave", 300, [0xc9]);
        yield return Family("nop endbr", 3000, [0x90], [0x0f, 0x1f], [0x0f, 0x1e], [0x0f, 0x1e], [0x0f, 0x19], [0x0f, 0x0d]);
        yield return Family("lea", 4000, [0x8d]);
        yield return Family("mov", 16000, [.. Range(0x88, 4), .. Range(0xb0, 16), [0xc6], [0xc7], [0xa0], [0xa1], [0xa2], [0xa3]]);
        yield return Family("movzx movsx", 8000, [0x0f, 0xb6], [0x0f, 0xb7], [0x0f, 0xbe], [0x0f, 0xbf], [0x63]);
        yield return Family("add or adc sbb and sub xor cmp", 30000, [.. Enumerable.Range(0, 8).SelectMany(i => Range(i * 8, 6))]);
        yield return Family("group 1: arithmetic immediate", 16000, [0x80], [0x81], [0x83]);
        yield return Family("test xchg", 8000, [.. Range(0x84, 4), .. Range(0xa8, 2), .. Range(0x91, 7)]);
        yield return Family("group 3: test not neg", 8000, [0xf6], [0xf7]);
        yield return Family("inc dec 8", 3000, [0xfe]);
        yield return Family("cmovcc", 10000, [.. Range2(0x40, 16)]);
        yield return Family("setcc", 6000, [.. Range2(0x90, 16)]);
        yield return Family("cbw cwd", 2000, [0x98], [0x99]);
    }

    [TestCaseSource(nameof(Families))]
    public void EmulationEqualsTheProcessor(byte[][] opcodes, int encodings)
    {
        _random = new Random(12345);
        _fsBase = _native.ReadFsBase();
        HashSet<Code> seen = [];
        int ran = 0;
        Span<byte> bytes = stackalloc byte[32];
        for (int i = 0; i < encodings; i++)
        {
            Generate(bytes, opcodes[i % opcodes.Length]);
            if (!X64InstructionSet.Instance.TryDecode(bytes[..15], _native.InstructionAddress, out DisplacedInstruction found, out _)
                || found.Kind != DisplacedKind.Emulated)
            {
                continue;
            }

            Instruction decoded = Decode(bytes[..found.Length]);
            if (!PrepareBytes(bytes[..found.Length], decoded))
            {
                continue;
            }

            Span<byte> exact = bytes[..found.Length];
            Assert.That(X64InstructionSet.Instance.TryDecode(exact, _native.InstructionAddress, out found, out _), Is.True);
            decoded = Decode(exact);
            _native.Place(exact);
            if (decoded.Op0Kind == OpKind.NearBranch64 && _target != _native.FarTarget)
            {
                _native.PlaceTarget(_target);
            }

            _random.NextBytes(_data);
            _random.NextBytes(_stack);
            for (int state = 0; state < StatesPerEncoding; state++)
            {
                if (RunBoth(found, decoded))
                {
                    ran++;
                    seen.Add(decoded.Code);
                }
            }
        }

        TestContext.Out.WriteLine($"{ran} states, {seen.Count} codes: {string.Join(' ', seen)}");
        Assert.That(ran, Is.GreaterThan(encodings / 4), "too few states ran to say anything");
    }

    private bool RunBoth(in DisplacedInstruction displaced, in Instruction decoded)
    {
        RegisterSet before = RandomState();
        if (!PrepareState(decoded, ref before))
        {
            return false;
        }

        _data.CopyTo(_native.Data);
        _stack.CopyTo(_native.Stack);
        RegisterSet expected = before;
        _native.Run(ref expected, _native.InstructionAddress, displaced.NextAddress, _target);

        RegisterSet actual = before;
        actual[X64Register.Rip] = 0x1234;
        EmulationOutcome outcome = X64InstructionSet.Instance.Emulate(displaced, ref actual, _memory, out _);
        string what = $"{decoded} [{Convert.ToHexString(displaced.Bytes)}]";
        Assert.That(outcome, Is.EqualTo(EmulationOutcome.Done), what);
        for (int word = 0; word < 27; word++)
        {
            X64Register register = (X64Register)word;
            if (expected[register] != actual[register])
            {
                Assert.Fail($"{what}: {register} is {actual[register]:x}, the processor's {expected[register]:x}; before {before[register]:x}, flags {before[X64Register.Eflags]:x}");
            }
        }

        Assert.That(_native.Data.SequenceEqual(_data), Is.True, $"{what}: data differ");
        Assert.That(_native.Stack.SequenceEqual(_stack), Is.True, $"{what}: the stack differs");
        return true;
    }

    private void Generate(Span<byte> bytes, byte[] opcode)
    {
        _random.NextBytes(bytes);
        int at = 0;
        ReadOnlySpan<byte> prefixes = [0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x3e, 0x64, 0x65];
        while (_random.Next(3) == 0 && at < 3)
        {
            bytes[at++] = prefixes[_random.Next(prefixes.Length)];
        }

        if (_random.Next(2) == 0)
        {
            bytes[at++] = (byte)(0x40 | _random.Next(16));
        }

        opcode.CopyTo(bytes[at..]);
    }

    /// <summary>Makes branches and absolute or rip-relative operands lead where they may.</summary>
    private bool PrepareBytes(Span<byte> bytes, in Instruction decoded)
    {
        _target = _native.FarTarget;
        ulong next = decoded.NextIP;
        if (decoded.Op0Kind == OpKind.NearBranch64)
        {
            if (IsRel32(decoded))
            {
                BinaryPrimitives.WriteInt32LittleEndian(bytes[^4..], (int)(_target - next));
                return true;
            }

            sbyte distance = (sbyte)(_random.Next(2) == 0 ? _random.Next(0x10, 0x7b) : -_random.Next(0x20, 0x81));
            bytes[^1] = (byte)distance;
            _target = next + (ulong)distance;
            return true;
        }

        if (HasMemory(decoded) && decoded.Mnemonic != Mnemonic.Lea && decoded.MemoryDisplSize >= 4)
        {
            ConstantOffsets offsets = OffsetsOf(bytes);
            ulong wanted = RandomDataAddress();
            if (decoded.IsIPRelativeMemoryOperand)
            {
                wanted -= next;
            }
            else if (decoded.MemoryBase != Register.None || decoded.MemoryIndex != Register.None)
            {
                wanted = (ulong)(long)(int)_random.Next();
            }
            else if (SegmentBase(decoded) != 0)
            {
                return false;
            }

            Span<byte> displacement = bytes.Slice(offsets.DisplacementOffset, offsets.DisplacementSize);
            displacement.Clear();
            BinaryPrimitives.WriteInt32LittleEndian(displacement, (int)wanted);
        }

        return true;
    }

    /// <summary>Makes the operand's address one in a window, and what is jumped to a capture; false if these registers cannot.</summary>
    private bool PrepareState(in Instruction decoded, ref RegisterSet registers)
    {
        bool transfers = decoded.IsJmpNearIndirect || decoded.IsCallNearIndirect;
        if (decoded.Mnemonic == Mnemonic.Ret)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(_stack.AsSpan((int)(registers[X64Register.Rsp] - _native.StackAddress)), _target);
        }

        if (decoded.Mnemonic == Mnemonic.Leave)
        {
            registers[X64Register.Rbp] = _native.StackAddress + (ulong)_random.Next(4000);
        }

        if (transfers && decoded.Op0Kind == OpKind.Register)
        {
            X64Register register = Word(decoded.Op0Register);
            registers[register] = _target;
            return register != X64Register.Rsp;
        }

        if (!HasMemory(decoded) || decoded.Mnemonic is Mnemonic.Lea or Mnemonic.Nop or Mnemonic.Reservednop)
        {
            return true;
        }

        int length = Math.Max(8, decoded.MemorySize.GetSize());
        PrepareAddress(decoded, ref registers);
        RegisterSet set = registers;
        ulong address = decoded.GetVirtualAddress(decoded.Op0Kind == OpKind.Memory ? 0 : 1, 0, (register, _, _) => Value(register, set));
        Span<byte> window;
        if (address - _native.DataAddress <= (ulong)(NativeRunner.WindowLength - length))
        {
            window = _data.AsSpan((int)(address - _native.DataAddress));
        }
        else if (address - _native.StackAddress <= (ulong)(NativeRunner.WindowLength - length))
        {
            window = _stack.AsSpan((int)(address - _native.StackAddress));
        }
        else
        {
            return false;
        }

        if (transfers)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(window, _target);
        }

        return true;
    }

    private void PrepareAddress(in Instruction decoded, ref RegisterSet registers)
    {
        bool hasBase = decoded.MemoryBase.IsGPR();
        bool hasIndex = decoded.MemoryIndex.IsGPR();
        ulong rest = RandomDataAddress() - SegmentBase(decoded) - decoded.MemoryDisplacement64;
        ulong scale = (ulong)decoded.MemoryIndexScale;
        bool narrow = decoded.MemoryBase.IsGPR32() || decoded.MemoryIndex.IsGPR32();
        ulong high = narrow ? (ulong)_random.NextInt64() << 32 : 0;
        if (hasBase && Word(decoded.MemoryBase) != X64Register.Rsp && (!hasIndex || Word(decoded.MemoryBase) != Word(decoded.MemoryIndex)))
        {
            ulong index = hasIndex ? registers[Word(decoded.MemoryIndex)] * scale : 0;
            registers[Word(decoded.MemoryBase)] = narrow ? (uint)(rest - index) | high : rest - index;
        }
        else if (hasIndex)
        {
            ulong stack = hasBase && Word(decoded.MemoryBase) == X64Register.Rsp ? registers[X64Register.Rsp] : 0;
            ulong factor = hasBase && stack == 0 ? scale + 1 : scale;
            ulong value = narrow ? (uint)(rest - stack) / factor : (ulong)((long)(rest - stack) / (long)factor);
            registers[Word(decoded.MemoryIndex)] = narrow ? value | high : value;
        }
    }

    private RegisterSet RandomState()
    {
        RegisterSet registers = new(System.Runtime.InteropServices.Architecture.X64);
        foreach (X64Register register in NativeRunner.EncodingOrder)
        {
            // Edge values make the flags' corner cases happen.
            ulong value = _random.Next(4) switch
            {
                0 => (ulong)_random.NextInt64() << 1 ^ (ulong)_random.Next(2),
                1 => (ulong)_random.Next(-3, 4),
                2 => 1UL << _random.Next(64),
                _ => (1UL << _random.Next(64)) - 1 ^ ((ulong)_random.Next() << 32),
            };
            registers[register] = value;
        }

        registers[X64Register.Rsp] = _native.StackAddress + 2048 + (ulong)_random.Next(-512, 512);
        if (_random.Next(2) == 0)
        {
            registers[X64Register.Rbp] = _native.StackAddress + (ulong)_random.Next(4000);
        }

        registers[X64Register.Eflags] = 0x202 | ((ulong)_random.Next() & X64Flags.Status);
        registers[X64Register.FsBase] = _fsBase;
        return registers;
    }

    private ulong RandomDataAddress() => _native.DataAddress + (ulong)_random.Next(NativeRunner.WindowLength - 16);

    private ulong SegmentBase(in Instruction decoded) => decoded.MemorySegment == Register.FS ? _fsBase : 0;

    private ulong Value(Register register, in RegisterSet registers) => register switch
    {
        Register.FS => _fsBase,
        _ when !register.IsGPR() => 0,
        _ when register.IsGPR32() => (uint)registers[Word(register)],
        _ => registers[Word(register)],
    };

    private static X64Register Word(Register register) => NativeRunner.EncodingOrder[register.GetFullRegister() - Register.RAX];

    private static bool HasMemory(in Instruction decoded) => decoded.OpCount > 0 && (decoded.Op0Kind == OpKind.Memory || decoded.Op1Kind == OpKind.Memory);

    private static bool IsRel32(in Instruction decoded) => decoded.IsJccNear || decoded.IsJmpNear || decoded.IsCallNear;

    private Instruction Decode(ReadOnlySpan<byte> bytes)
    {
        Decoder decoder = Decoder.Create(64, bytes.ToArray(), _native.InstructionAddress);
        return decoder.Decode();
    }

    private ConstantOffsets OffsetsOf(ReadOnlySpan<byte> bytes)
    {
        Decoder decoder = Decoder.Create(64, bytes.ToArray(), _native.InstructionAddress);
        Instruction instruction = decoder.Decode();
        return decoder.GetConstantOffsets(instruction);
    }

    private static byte[][] Range(int first, int count) => [.. Enumerable.Range(first, count).Select(i => new[] { (byte)i })];

    private static byte[][] Range2(int first, int count) => [.. Enumerable.Range(first, count).Select(i => new byte[] { 0x0f, (byte)i })];

    private static TestCaseData Family(string name, int encodings, params byte[][] opcodes) => new TestCaseData(opcodes, encodings).SetArgDisplayNames(name);
}
