using System.Buffers.Binary;
using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using NUnit.Framework;

namespace FastTrap.Tests.Isa;

/// <summary>Slots on the processor: an instruction run in place, and out of line, does the same.</summary>
[TestFixture]
[NonParallelizable]
internal sealed unsafe class X64SlotNativeTests : IDisposable
{
    private NativeRunner _native = null!;
    private nint _far;

    /// <summary>Instructions which this processor has; the four bytes 44 33 22 11 become a displacement to data.</summary>
    private static readonly string[] s_samples =
    [
        "0105 44332211", "0FAF05 44332211", "6905 44332211 78563412", "C605 44332211 7F", "8005 44332211 80", "F0480FB10D 44332211",
        "660F6F05 44332211", "0F1005 44332211", "660F3A0F05 44332211 03", "4C0FAF3D 44332211", "48F725 44332211", "480FC70D 44332211",
        "0F1105 44332211", "8A25 44332211", "C705 44332211 78563412", "488D05 44332211", "488B0D 44332211", "FF35 44332211", "C125 44332211 05",
        "FE05 44332211", "0FC1 05 44332211", "4887 3D 44332211", "0FC8", "48C1E005", "9C", "C8200000", "0FAFC3", "9F", "F3A4",
        "F348AB", "480FBCC1", "50", "58", "0FB1C8", "F5", "660FEFC0", "C5F85805 44332211", "C4E2F3F605 44332211", "62F17C085805 44332211",
        "C5F8 1105 44332211", "0FA3C8", "480FA4C803",
    ];

    [OneTimeSetUp]
    public void SetUp()
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            Assert.Ignore("The oracle is an x86-64 processor, and this machine has none.");
        }

        _native = new NativeRunner();
        _far = NativeRunner.Map(4096, low: false);
    }

    public void Dispose()
    {
        _native?.Dispose();
        if (_far != 0)
        {
            NativeRunner.Unmap(_far, 4096);
        }
    }

    [Test]
    public void OutOfLineIsAsInPlace([ValueSource(nameof(s_samples))] string hex, [Values] bool far, [Values] bool trapPart)
    {
        byte[] bytes = Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal));
        RequireExtensions(bytes);
        int displacement = bytes.AsSpan().IndexOf((ReadOnlySpan<byte>)[0x44, 0x33, 0x22, 0x11]);
        if (displacement >= 0)
        {
            ulong operand = _native.DataAddress + 0x400;
            BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(displacement), (int)(operand - _native.InstructionAddress - (ulong)bytes.Length));
        }

        Assert.That(X64InstructionSet.Instance.TryDecode(bytes, _native.InstructionAddress, out DisplacedInstruction displaced, out _), Is.True);
        ulong slotAddress = far ? (ulong)_far : _native.SlotAddress;
        Span<byte> slot = new((void*)slotAddress, 64);
        Assert.That(X64InstructionSet.Instance.TryBuildSlot(displaced, slotAddress, slot, out SlotLayout layout, out _), Is.True);
        if (!trapPart && !layout.CanContinue)
        {
            Assert.Pass("A borrowing slot has no continuing part.");
        }

        // Instead of the trap, which this process cannot take: to the capture.
        slot[layout.TrapOffset] = 0xff;
        slot[layout.TrapOffset + 1] = 0x25;
        BinaryPrimitives.WriteInt32LittleEndian(slot[(layout.TrapOffset + 2)..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(slot[(layout.TrapOffset + 6)..], _native.CaptureAddress);

        _native.Place(bytes);
        Random random = new(99);
        for (int i = 0; i < 40; i++)
        {
            RegisterSet before = RandomState(random);
            byte[] data = new byte[NativeRunner.WindowLength];
            byte[] stack = new byte[NativeRunner.WindowLength];
            byte[] vector = new byte[16];
            random.NextBytes(data);
            random.NextBytes(stack);
            random.NextBytes(vector);

            RegisterSet expected = before;
            Restore(data, stack, vector);
            _native.Run(ref expected, _native.InstructionAddress, displaced.NextAddress, 0);
            byte[] expectedMemory = [.. _native.Data, .. _native.Stack, .. _native.Vector];

            RegisterSet actual = before;
            if (layout.Borrows)
            {
                actual[(X64Register)layout.BorrowedRegister] = layout.BorrowedValue;
            }

            Restore(data, stack, vector);
            _native.Run(ref actual, slotAddress + (ulong)(trapPart ? layout.TrapPartOffset : layout.ContinueOffset), displaced.NextAddress, 0);
            if (layout.Borrows)
            {
                Assert.That(actual[(X64Register)layout.BorrowedRegister], Is.EqualTo(layout.BorrowedValue), "the instruction changed what it borrowed");
                actual[(X64Register)layout.BorrowedRegister] = before[(X64Register)layout.BorrowedRegister];
            }

            foreach (X64Register register in NativeRunner.EncodingOrder)
            {
                Assert.That(actual[register], Is.EqualTo(expected[register]), register.ToString());
            }

            Assert.That(actual[X64Register.Eflags], Is.EqualTo(expected[X64Register.Eflags]));
            Assert.That((byte[])[.. _native.Data, .. _native.Stack, .. _native.Vector], Is.EqualTo(expectedMemory));
        }
    }

    [Test]
    public void ASystemCallShowsItsOriginalReturnAddress([Values] bool far)
    {
        const ulong GetProcessId = 39;
        byte[] bytes = [0x0f, 0x05];
        Assert.That(X64InstructionSet.Instance.TryDecode(bytes, _native.InstructionAddress, out DisplacedInstruction displaced, out _), Is.True);
        ulong slotAddress = far ? (ulong)_far : _native.SlotAddress;
        Assert.That(X64InstructionSet.Instance.TryBuildSlot(displaced, slotAddress, new Span<byte>((void*)slotAddress, 64), out SlotLayout layout, out _), Is.True);
        _native.Place(bytes);
        RegisterSet state = RandomState(new Random(5));
        state[X64Register.Rax] = GetProcessId;
        RegisterSet expected = state;
        _native.Run(ref expected, _native.InstructionAddress, displaced.NextAddress, 0);
        Assert.That(expected[X64Register.Rcx], Is.EqualTo(displaced.NextAddress), "the processor's own rule");
        Assert.That(expected[X64Register.Rax], Is.EqualTo((ulong)Environment.ProcessId));
        _native.Run(ref state, slotAddress + (ulong)layout.ContinueOffset, displaced.NextAddress, 0);
        foreach (X64Register register in NativeRunner.EncodingOrder)
        {
            Assert.That(state[register], Is.EqualTo(expected[register]), register.ToString());
        }
    }

    [Test]
    public void TouchCodeAccessesItsByteAndChangesNothing([Values] bool write)
    {
        Span<byte> slot = new((void*)_far, 64);
        TouchCode touch = X64InstructionSet.Instance.BuildTouch(slot, write);
        Assert.That(slot[touch.TrapOffset], Is.EqualTo(0xcc));
        Assert.That(touch.Length, Is.LessThanOrEqualTo(X64InstructionSet.Instance.TouchLength));
        slot[touch.TrapOffset] = 0xff;
        slot[touch.TrapOffset + 1] = 0x25;
        BinaryPrimitives.WriteInt32LittleEndian(slot[(touch.TrapOffset + 2)..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(slot[(touch.TrapOffset + 6)..], _native.CaptureAddress);
        RegisterSet state = RandomState(new Random(5));
        X64InstructionSet.Instance.SetTouchAddress(ref state, _native.DataAddress + 77);
        RegisterSet after = state;
        _native.Data.Fill(0x5a);
        _native.Run(ref after, (ulong)_far, 1, 2);
        Assert.That(_native.Data.ToArray(), Is.All.EqualTo(0x5a));
        Assert.That(after.ProgramCounter, Is.EqualTo(1));
        Assert.That((byte)after[X64Register.Rax], Is.EqualTo(write ? (byte)state[X64Register.Rax] : 0x5a));
        foreach (X64Register register in NativeRunner.EncodingOrder[1..])
        {
            Assert.That(after[register], Is.EqualTo(state[register]));
        }
    }

    private void Restore(byte[] data, byte[] stack, byte[] vector)
    {
        data.CopyTo(_native.Data);
        stack.CopyTo(_native.Stack);
        vector.CopyTo(_native.Vector);
    }

    private RegisterSet RandomState(Random random)
    {
        RegisterSet registers = new(Architecture.X64);
        foreach (X64Register register in NativeRunner.EncodingOrder)
        {
            registers[register] = (ulong)random.NextInt64() ^ ((ulong)random.Next() << 40);
        }

        registers[X64Register.Rsp] = _native.StackAddress + 2048 + (ulong)(8 * random.Next(-16, 16));
        registers[X64Register.Rsi] = _native.DataAddress + (ulong)random.Next(1024);
        registers[X64Register.Rdi] = _native.DataAddress + (ulong)random.Next(1024, 2048);
        registers[X64Register.Rcx] = (ulong)random.Next(200);
        registers[X64Register.Eflags] = 0x202 | ((ulong)random.Next() & X64Flags.Status);
        return registers;
    }

    private static void RequireExtensions(byte[] bytes)
    {
        bool present = bytes[0] switch
        {
            0xc4 or 0xc5 => System.Runtime.Intrinsics.X86.Avx2.IsSupported && System.Runtime.Intrinsics.X86.Bmi2.IsSupported,
            0x62 => System.Runtime.Intrinsics.X86.Avx512F.VL.IsSupported,
            _ => true,
        };
        if (!present)
        {
            Assert.Ignore("This processor has not the instruction; X64SlotTests reads it with a disassembler.");
        }
    }
}
