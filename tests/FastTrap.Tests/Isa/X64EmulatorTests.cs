using System.Buffers.Binary;
using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Native;
using NUnit.Framework;

namespace FastTrap.Tests.Isa;

/// <summary>What the processor cannot show in this process: faults, page boundaries, allocation; and the arguments of functions.</summary>
[TestFixture]
internal sealed class X64EmulatorTests
{
    private const ulong Pc = 0x7f00_1234_5678;
    private const ulong Page = 0x10000;

    [TestCase("E800000000", EmulationOutcome.WriteFault, (long)(Page - 8))]
    [TestCase("FFD0", EmulationOutcome.WriteFault, (long)(Page - 8))]
    [TestCase("FF10", EmulationOutcome.ReadFault, 0x5000)]
    [TestCase("FF20", EmulationOutcome.ReadFault, 0x5000)]
    [TestCase("55", EmulationOutcome.WriteFault, (long)(Page - 8))]
    [TestCase("6A01", EmulationOutcome.WriteFault, (long)(Page - 8))]
    [TestCase("FF30", EmulationOutcome.ReadFault, 0x5000)]
    [TestCase("C9", EmulationOutcome.ReadFault, 0x6000)]
    [TestCase("8B00", EmulationOutcome.ReadFault, 0x5000)]
    [TestCase("8900", EmulationOutcome.WriteFault, 0x5000)]
    [TestCase("0300", EmulationOutcome.ReadFault, 0x5000)]
    [TestCase("833800", EmulationOutcome.ReadFault, 0x5000)]
    [TestCase("0F4400", EmulationOutcome.ReadFault, 0x5000)]
    [TestCase("488B4301", EmulationOutcome.ReadFault, (long)(Page + 4096))]
    [TestCase("48894301", EmulationOutcome.WriteFault, (long)(Page + 4096))]
    public void AFaultChangesNothing(string hex, EmulationOutcome expected, long fault)
    {
        WindowMemory memory = new();
        byte[] page = memory.Add(Page, Filled(4096, 0x11));
        RegisterSet registers = State();
        RegisterSet before = registers;
        EmulationOutcome outcome = X64InstructionSet.Instance.Emulate(Decode(hex), ref registers, memory, out ulong faultAddress);
        Assert.That(outcome, Is.EqualTo(expected));
        Assert.That(faultAddress, Is.EqualTo((ulong)fault));
        AssertEqual(registers, before);
        Assert.That(page, Is.All.EqualTo(0x11));
    }

    [TestCase("C3", 0x8000_0000_0000_0000UL)]
    [TestCase("C3", 0x0100_0000_0000_0000UL)]
    [TestCase("FFE1", 0x8000_0000_0000_0000UL)]
    [TestCase("FFD1", 0x8000_0000_0000_0000UL)]
    public void AJumpToAnImpossibleAddressFaultsBeforeItIsTaken(string hex, ulong target)
    {
        RegisterSet registers = TargetState(target, out WindowMemory memory);
        RegisterSet before = registers;
        Assert.That(X64InstructionSet.Instance.Emulate(Decode(hex), ref registers, memory, out ulong fault), Is.EqualTo(EmulationOutcome.ReadFault));
        Assert.That(fault, Is.EqualTo(target));
        AssertEqual(registers, before);

        // A call has stored its return address by then, below the stack pointer, which has not moved.
        Assert.That(memory.Writes, Is.EqualTo(hex == "FFD1" ? 1 : 0));
    }

    [TestCase("C3", 0x7fff_ffff_f000UL)]
    [TestCase("FFE1", 0xffff_ffff_ff60_0000UL)]
    [TestCase("FFD1", 0xffff_ffff_ff60_0000UL)]
    public void AJumpToAnUnmappedAddressIsTaken(string hex, ulong target)
    {
        RegisterSet registers = TargetState(target, out WindowMemory memory);
        Assert.That(X64InstructionSet.Instance.Emulate(Decode(hex), ref registers, memory, out _), Is.EqualTo(EmulationOutcome.Done));
        Assert.That(registers.ProgramCounter, Is.EqualTo(target));
    }

    private static RegisterSet TargetState(ulong target, out WindowMemory memory)
    {
        byte[] stack = Filled(128, 0x11);
        BinaryPrimitives.WriteUInt64LittleEndian(stack.AsSpan(64), target);
        memory = new WindowMemory();
        memory.Add(Page - 64, stack);
        RegisterSet registers = State();
        registers[X64Register.Rcx] = target;
        return registers;
    }

    /// <summary>The processor looks at the lower page first.</summary>
    [TestCase(0xf000UL)]
    [TestCase(0x10000UL)]
    [TestCase(0xf000UL, 0x10000UL)]
    public void AStoreAcrossPagesIsWholeOrNot(params ulong[] readOnlyPages)
    {
        WindowMemory memory = new();
        byte[] window = memory.Add(Page - 4096, Filled(8192, 0x11));
        RegisterSet registers = State();
        registers[X64Register.Rbx] = Page - 4;
        registers[X64Register.Rax] = 0x2222_2222_3333_3333;
        Array.ForEach(readOnlyPages, page => memory.ReadOnlyPages.Add(page));
        EmulationOutcome outcome = X64InstructionSet.Instance.Emulate(Decode("488903"), ref registers, memory, out ulong fault);
        Assert.That(outcome, Is.EqualTo(EmulationOutcome.WriteFault));
        Assert.That(fault & ~4095UL, Is.EqualTo(readOnlyPages[0]), "the address must be in the page that faults");
        Assert.That(window, Is.All.EqualTo(0x11));

        memory.ReadOnlyPages.Clear();
        outcome = X64InstructionSet.Instance.Emulate(Decode("488903"), ref registers, memory, out _);
        Assert.That(outcome, Is.EqualTo(EmulationOutcome.Done));
        Assert.That(BinaryPrimitives.ReadUInt64LittleEndian(window.AsSpan(4092)), Is.EqualTo(0x2222_2222_3333_3333));
    }

    /// <summary>What the processor does; the differential tests see it only where the state happens to lead there.</summary>
    [TestCase("488B03", EmulationOutcome.ReadFault, -4L, 0L, TestName = "a load reaches into impossible addresses")]
    [TestCase("488903", EmulationOutcome.WriteFault, -4L, 0L, TestName = "a store reaches into impossible addresses")]
    [TestCase("488B03", EmulationOutcome.ReadFault, -8L, -8L, TestName = "a load just below impossible addresses")]
    public void AnAccessAcrossTheLastAddressFaultsBehindIt(string hex, EmulationOutcome expected, long start, long fault)
    {
        ulong limit = 1UL << (Processor.AddressBits - 1);
        RegisterSet registers = State();
        registers[X64Register.Rbx] = limit + (ulong)start;
        Assert.That(X64InstructionSet.Instance.Emulate(Decode(hex), ref registers, new WindowMemory(), out ulong address), Is.EqualTo(expected));
        Assert.That(address, Is.EqualTo(limit + (ulong)fault));
    }

    [Test]
    public void RipRelativeOperandsAreRelativeToTheOriginalAddress()
    {
        WindowMemory memory = new();
        memory.Add(Pc + 7 + 0x100, [1, 2, 3, 4, 5, 6, 7, 8]);
        RegisterSet registers = State();
        registers.ProgramCounter = 0xdead;
        Assert.That(X64InstructionSet.Instance.Emulate(Decode("488B0500010000"), ref registers, memory, out _), Is.EqualTo(EmulationOutcome.Done));
        Assert.That(registers[X64Register.Rax], Is.EqualTo(0x0807060504030201));
        Assert.That(registers.ProgramCounter, Is.EqualTo(Pc + 7));
    }

    [Test]
    public void SegmentBasesAreAddedAfterA32BitAddressIsCut()
    {
        WindowMemory memory = new();
        memory.Add(0x7f55_0000_0000 + 0x1_0000, [1, 0, 0, 0, 2, 0, 0, 0]);
        RegisterSet registers = State();
        registers[X64Register.GsBase] = 0x7f55_0000_0000;
        registers[X64Register.Rbx] = 0x9999_0000_0000_ffff;
        Assert.That(X64InstructionSet.Instance.Emulate(Decode("6765488B4301"), ref registers, memory, out _), Is.EqualTo(EmulationOutcome.Done));
        Assert.That(registers[X64Register.Rax], Is.EqualTo(0x2_0000_0001));
    }

    [Test, NonParallelizable]
    public void EmulationAllocatesNothing()
    {
        WindowMemory memory = new();
        memory.Add(Page - 2048, new byte[4096]);
        memory.Add(0x5000, Filled(64, 1));
        DisplacedInstruction[] instructions =
        [
            .. new[] { "E800000000", "C3", "55", "5D", "C9", "7400", "E200", "FF10", "90", "488D4310", "488B03", "488903", "4883EC08", "4839D8", "31C0", "0FB600", "98" }
                .Select(Decode),
        ];
        long Run(int times)
        {
            long start = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < times; i++)
            {
                foreach (ref readonly DisplacedInstruction instruction in instructions.AsSpan())
                {
                    RegisterSet registers = State();
                    registers[X64Register.Rbx] = Page;
                    registers[X64Register.Rbp] = Page;
                    X64InstructionSet.Instance.Emulate(instruction, ref registers, memory, out _);
                }
            }

            return GC.GetAllocatedBytesForCurrentThread() - start;
        }

        Run(10);
        Assert.That(Run(1000), Is.Zero);
    }

    [Test]
    public void ArgumentsAreInRegistersAndThenOnTheStack()
    {
        WindowMemory memory = new();
        byte[] stack = memory.Add(Page, new byte[4096]);
        RegisterSet registers = new(Architecture.X64);
        registers[X64Register.Rsp] = Page + 64;
        X64Register[] order = [X64Register.Rdi, X64Register.Rsi, X64Register.Rdx, X64Register.Rcx, X64Register.R8, X64Register.R9];
        for (int i = 0; i < order.Length; i++)
        {
            registers[order[i]] = 100 + (ulong)i;
        }

        for (int i = 6; i < 10; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(stack.AsSpan(64 + 8 + ((i - 6) * 8)), 100 + (ulong)i);
        }

        for (int i = 0; i < 10; i++)
        {
            Assert.That(X64InstructionSet.Instance.TryGetArgument(registers, memory, i, out ulong value), Is.True);
            Assert.That(value, Is.EqualTo(100 + (ulong)i));
        }

        Assert.That(X64InstructionSet.Instance.TryGetArgument(registers, memory, 5000, out _), Is.False, "beyond the stack");
        Assert.That(() => X64InstructionSet.Instance.TryGetArgument(registers, memory, -1, out _), Throws.InstanceOf<ArgumentException>());
    }

    private static DisplacedInstruction Decode(string hex)
    {
        Assert.That(X64InstructionSet.Instance.TryDecode(Convert.FromHexString(hex), Pc, out DisplacedInstruction displaced, out _), Is.True);
        Assert.That(displaced.Kind, Is.EqualTo(DisplacedKind.Emulated));
        return displaced;
    }

    private static RegisterSet State()
    {
        RegisterSet registers = new(Architecture.X64);
        registers[X64Register.Rsp] = Page;
        registers[X64Register.Rax] = 0x5000;
        registers[X64Register.Rbx] = Page + 4092 - 1;
        registers[X64Register.Rbp] = 0x6000;
        registers[X64Register.Eflags] = 0x246;
        registers.ProgramCounter = Pc;
        return registers;
    }

    private static void AssertEqual(in RegisterSet actual, in RegisterSet expected)
    {
        for (int i = 0; i < 27; i++)
        {
            Assert.That(actual[(X64Register)i], Is.EqualTo(expected[(X64Register)i]), ((X64Register)i).ToString());
        }
    }

    private static byte[] Filled(int length, byte value)
    {
        byte[] bytes = new byte[length];
        bytes.AsSpan().Fill(value);
        return bytes;
    }
}
