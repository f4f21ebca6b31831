using System.Buffers.Binary;
using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Isa.Arm64;

namespace FastTrap.Tests.Isa.Arm64;

/// <summary>What the oracle cannot show: kinds and refusals, faults, slots' layouts, arguments, allocation.</summary>
[TestFixture]
internal sealed class Arm64InstructionSetTests
{
    private const ulong Pc = 0xaaaa_0000_1230;
    private const ulong Near = Pc + 0x10_0000 * 4;
    private const ulong Far = 0xffff_8000_0000;
    private const ulong Page = 0x10000;

    private static InstructionSet Isa => InstructionSet.For(Architecture.Arm64);

    [TestCase(0xd420_0000u, ProbeRefusal.AlreadyBreakpoint, TestName = "brk #0")]
    [TestCase(0xd420_7d00u, ProbeRefusal.AlreadyBreakpoint, TestName = "brk #1000")]
    [TestCase(0x885f_7c01u, ProbeRefusal.ExclusiveSequence, TestName = "ldxr")]
    [TestCase(0xc87f_8401u, ProbeRefusal.ExclusiveSequence, TestName = "ldaxp")]
    [TestCase(0x0800_7c01u, ProbeRefusal.ExclusiveSequence, TestName = "stxrb")]
    [TestCase(0xc820_8401u, ProbeRefusal.ExclusiveSequence, TestName = "stlxp")]
    [TestCase(0x1d42_0461u, ProbeRefusal.PositionDependent, TestName = "cpym")]
    [TestCase(0x19c2_8461u, ProbeRefusal.PositionDependent, TestName = "sete")]
    [TestCase(0x5500_001fu, ProbeRefusal.PositionDependent, TestName = "retaasppc")]
    [TestCase(0xd65f_0be1u, ProbeRefusal.PositionDependent, TestName = "retaasppcr x1")]
    [TestCase(0xf380_001fu, ProbeRefusal.PositionDependent, TestName = "autiasppc")]
    [TestCase(0xdac1_a3feu, ProbeRefusal.PositionDependent, TestName = "paciasppc")]
    [TestCase(0x7401_0000u, ProbeRefusal.PositionDependent, TestName = "cbgt w0,w1")]
    [TestCase(0xf500_0000u, ProbeRefusal.PositionDependent, TestName = "cbgt x0,#0")]
    [TestCase(0x0200_0000u, ProbeRefusal.Undecodable, TestName = "unallocated")]
    [TestCase(0x5600_0000u, ProbeRefusal.Undecodable, TestName = "unallocated among branches")]
    public void WhatCannotBeCarriedOutElsewhereIsRefused(uint word, ProbeRefusal expected)
    {
        Assert.That(TryDecode(word, Pc, out DisplacedInstruction instruction, out ProbeRefusal reason), Is.False);
        Assert.That(reason, Is.EqualTo(expected));
        Assert.That(instruction.Kind, Is.EqualTo(DisplacedKind.Refused));
        Assert.That(reason.Describe(), Does.Contain("probe"));
    }

    [TestCase(0xd503_201fu, DisplacedKind.Emulated, DisplacedTraits.SlotPossible, TestName = "nop")]
    [TestCase(0xd503_245fu, DisplacedKind.Emulated, DisplacedTraits.SlotPossible, TestName = "bti c")]
    [TestCase(0xd503_233fu, DisplacedKind.Slot, DisplacedTraits.SlotPossible, TestName = "paciasp")]
    [TestCase(0xd503_205fu, DisplacedKind.Slot, DisplacedTraits.SlotPossible, TestName = "wfe")]
    [TestCase(0xd503_3f5fu, DisplacedKind.Slot, DisplacedTraits.SlotPossible, TestName = "clrex")]
    [TestCase(0xa9bf_7bfdu, DisplacedKind.Emulated, DisplacedTraits.SlotPossible | DisplacedTraits.SlotPreferred | DisplacedTraits.WritesMemory, TestName = "stp x29,x30,[sp,#-16]!")]
    [TestCase(0xa8c1_7bfdu, DisplacedKind.Emulated, DisplacedTraits.SlotPossible | DisplacedTraits.SlotPreferred | DisplacedTraits.ReadsMemory, TestName = "ldp x29,x30,[sp],#16")]
    [TestCase(0xd65f_03c0u, DisplacedKind.Emulated, DisplacedTraits.Return, TestName = "ret")]
    [TestCase(0xd65f_0bffu, DisplacedKind.Slot, DisplacedTraits.SlotPossible | DisplacedTraits.Return, TestName = "retaa")]
    [TestCase(0xd63f_0020u, DisplacedKind.Emulated, DisplacedTraits.Call | DisplacedTraits.Indirect, TestName = "blr x1")]
    [TestCase(0xd73f_0822u, DisplacedKind.Slot, DisplacedTraits.SlotPossible | DisplacedTraits.Call | DisplacedTraits.Indirect, TestName = "blraa x1,x2")]
    [TestCase(0xd400_0001u, DisplacedKind.Slot, DisplacedTraits.SlotPossible | DisplacedTraits.SystemCall, TestName = "svc #0")]
    [TestCase(0x0000_0000u, DisplacedKind.Slot, DisplacedTraits.SlotPossible | DisplacedTraits.Faults, TestName = "udf #0")]
    [TestCase(0xd440_0000u, DisplacedKind.Slot, DisplacedTraits.SlotPossible | DisplacedTraits.Faults, TestName = "hlt #0")]
    [TestCase(0xd69f_03e0u, DisplacedKind.Slot, DisplacedTraits.SlotPossible | DisplacedTraits.Faults, TestName = "eret")]
    [TestCase(0x1c00_0040u, DisplacedKind.Slot, DisplacedTraits.SlotPossible | DisplacedTraits.PcRelative, TestName = "ldr s0,literal")]
    [TestCase(0x1d02_0461u, DisplacedKind.Slot, DisplacedTraits.SlotPossible, TestName = "cpyp")]
    [TestCase(0xb820_0041u, DisplacedKind.Slot, DisplacedTraits.SlotPossible, TestName = "ldadd")]
    [TestCase(0x88df_fc01u, DisplacedKind.Slot, DisplacedTraits.SlotPossible, TestName = "ldar")]
    [TestCase(0x2518_e3e0u, DisplacedKind.Slot, DisplacedTraits.SlotPossible, TestName = "ptrue (SVE)")]
    [TestCase(0xc008_00ffu, DisplacedKind.Slot, DisplacedTraits.SlotPossible, TestName = "zero (SME)")]
    [TestCase(0xf861_8c00u, DisplacedKind.Slot, DisplacedTraits.SlotPossible, TestName = "an unallocated load")]
    public void KindsAndTraits(uint word, DisplacedKind kind, DisplacedTraits traits)
    {
        DisplacedInstruction instruction = Decode(word);
        Assert.That(instruction.Kind, Is.EqualTo(kind));
        Assert.That(instruction.Traits, Is.EqualTo(traits));
        Assert.That((int)instruction.Length, Is.EqualTo(4));
    }

    [Test]
    public void AddressesAndLengthsAreLookedAt()
    {
        Assert.That(Isa.TryDecode([0x1f, 0x20, 0x03], Pc, out _, out ProbeRefusal reason), Is.False);
        Assert.That(reason, Is.EqualTo(ProbeRefusal.Truncated));
        Assert.That(TryDecode(0xd503_201f, Pc + 2, out _, out reason), Is.False);
        Assert.That(reason, Is.EqualTo(ProbeRefusal.Misaligned));
    }

    [TestCase(0xa9bf_7bfdu, EmulationOutcome.WriteFault, Page - 16, TestName = "stp x29,x30,[sp,#-16]!")]
    [TestCase(0xa940_7bfdu, EmulationOutcome.Done, 0UL, TestName = "ldp x29,x30,[sp]")]
    [TestCase(0xa97f_7bfdu, EmulationOutcome.ReadFault, Page - 16, TestName = "ldp x29,x30,[sp,#-16]")]
    [TestCase(0xf940_0001u, EmulationOutcome.ReadFault, 0x5000UL, TestName = "ldr x1,[x0]")]
    [TestCase(0xb900_0001u, EmulationOutcome.WriteFault, 0x5000UL, TestName = "str w1,[x0]")]
    [TestCase(0xf940_0041u, EmulationOutcome.ReadFault, Page + 4096, TestName = "ldr x1,[x2], over the end of the page")]
    [TestCase(0xa900_0c41u, EmulationOutcome.WriteFault, Page + 4096, TestName = "stp x1,x3,[x2], over the end of the page")]
    [TestCase(0x5800_0001u, EmulationOutcome.ReadFault, Pc, TestName = "ldr x1,literal")]
    public void AFaultChangesNothing(uint word, EmulationOutcome expected, ulong fault)
    {
        WindowMemory memory = new();
        byte[] page = memory.Add(Page, new byte[4096]);
        RegisterSet registers = State();
        RegisterSet before = registers;
        Assert.That(Isa.Emulate(Decode(word), ref registers, memory, out ulong faultAddress), Is.EqualTo(expected));
        Assert.That(faultAddress, Is.EqualTo(fault));
        if (expected != EmulationOutcome.Done)
        {
            Assert.That(registers.Words[..34].SequenceEqual(before.Words[..34]), Is.True);
            Assert.That(page, Is.All.Zero);
        }
    }

    [Test]
    public void AStoreAcrossPagesIsWholeOrNot()
    {
        WindowMemory memory = new();
        byte[] window = memory.Add(Page, new byte[8192]);
        memory.ReadOnlyPages.Add(Page);
        RegisterSet registers = State();
        registers[Arm64Register.X1] = ulong.MaxValue;
        DisplacedInstruction store = Decode(0xa900_0c41);
        Assert.That(Isa.Emulate(store, ref registers, memory, out ulong fault), Is.EqualTo(EmulationOutcome.WriteFault));
        Assert.That(fault & ~4095UL, Is.EqualTo(Page));
        Assert.That(window, Is.All.Zero);
        memory.ReadOnlyPages.Clear();
        Assert.That(Isa.Emulate(store, ref registers, memory, out _), Is.EqualTo(EmulationOutcome.Done));
        Assert.That(BinaryPrimitives.ReadUInt64LittleEndian(window.AsSpan(4092)), Is.EqualTo(ulong.MaxValue));
    }

    /// <summary>The processor faults; where it does is found natively.</summary>
    [TestCase(0xa9bf_7bfdu, EmulationOutcome.WriteFault)]
    [TestCase(0xf940_03e0u, EmulationOutcome.ReadFault)]
    public void AMisalignedStackPointerFaults(uint word, EmulationOutcome expected)
    {
        WindowMemory memory = new();
        memory.Add(Page - 4096, new byte[8192]);
        RegisterSet registers = State();
        registers[Arm64Register.Sp] = Page + 8;
        Assert.That(Isa.Emulate(Decode(word), ref registers, memory, out _), Is.EqualTo(expected));
        Assert.That(registers[Arm64Register.Sp], Is.EqualTo(Page + 8));
    }

    [Test]
    public void TheBranchTypeEndsWithTheInstruction()
    {
        RegisterSet registers = State();
        registers[Arm64Register.Pstate] = RegisterSet.Arm64BranchType | 0x9000_0000;
        Isa.Emulate(Decode(0xd503_245f), ref registers, new WindowMemory(), out _);
        Assert.That(registers[Arm64Register.Pstate], Is.EqualTo(0x9000_0000));
        registers[Arm64Register.Pstate] = RegisterSet.Arm64BranchType | 0x9000_0000;
        registers.ProgramCounter = 0x1000;
        Assert.That(registers[Arm64Register.Pstate], Is.EqualTo(0x9000_0000));
        Assert.That(registers[Arm64Register.Pc], Is.EqualTo(0x1000));
    }

    [Test]
    public void PositionsAreAsWithoutTheSlot()
    {
        DisplacedInstruction instruction = Decode(0x9b02_7c20);
        SlotLayout layout = Build(instruction, Near, out uint[] slot);
        Assert.That(slot[..4], Is.EqualTo(new[] { 0x9b02_7c20u, 0x17f0_0000u, 0x9b02_7c20u, 0xd420_0000u }));
        Assert.That(slot[4..], Is.All.EqualTo(0xd420_0000u));
        AssertPosition(instruction, layout, Near, 0, SlotPosition.Before, Pc);
        AssertPosition(instruction, layout, Near, 4, SlotPosition.After, Pc + 4);
        AssertPosition(instruction, layout, Near, 8, SlotPosition.Before, Pc);
        AssertPosition(instruction, layout, Near, 12, SlotPosition.After, Pc + 4);
        AssertPosition(instruction, layout, Near, -4, SlotPosition.Outside, Near - 4);
        AssertPosition(instruction, layout, Near, 32, SlotPosition.Outside, Near + 32);
        Assert.That((int)layout.TrapOffset, Is.EqualTo(12));
    }

    [TestCase(0x7ff_fffcL, true)]
    [TestCase(0x800_0000L, false)]
    [TestCase(-0x800_0000L, true)]
    [TestCase(-0x800_0004L, false)]
    public void OutOfReachOfABranchASlotAlwaysTraps(long distance, bool reaches)
    {
        // The branch stands at the second word, and leads to the next instruction.
        ulong slotAddress = Pc - (ulong)distance;
        SlotLayout layout = Build(Decode(0x9b02_7c20), slotAddress, out uint[] slot);
        Assert.That(layout.CanContinue, Is.EqualTo(reaches));
        Assert.That(slot[layout.TrapPartOffset / 4], Is.EqualTo(0x9b02_7c20u));
        Assert.That(slot[layout.TrapOffset / 4], Is.EqualTo(0xd420_0000u));
        Assert.That(Isa.SlotReach, Is.LessThan(0x800_0000UL));
    }

    [Test]
    public void AnAuthenticatedReturnIsItselfInTheSlot()
    {
        DisplacedInstruction instruction = Decode(0xd65f_0bff);
        SlotLayout layout = Build(instruction, Far, out uint[] slot);
        Assert.That(slot[0], Is.EqualTo(0xd65f_0bffu), "retaa");
        Assert.That(slot[1], Is.EqualTo(0xdac1_13f0u), "autia x16, sp");
        Assert.That(layout, Is.EqualTo(new SlotLayout
        {
            ContinueOffset = 0, TrapPartOffset = 4, TrapOffset = 8, InstructionLength = 4, BorrowedRegister = (sbyte)Arm64Register.X16, BorrowedSource = 30,
        }));
        RegisterSet registers = State();
        registers[Arm64Register.X16] = 0x5678;
        registers.ProgramCounter = Far + 8;
        Assert.That(Isa.NormalizeSlotPosition(instruction, layout, Far, ref registers), Is.EqualTo(SlotPosition.After));
        Assert.That(registers.ProgramCounter, Is.EqualTo(0x5678));
        AssertPosition(instruction, layout, Far, 4, SlotPosition.Before, Pc);
    }

    [Test]
    public void AnAuthenticatedCallNeverSavesTheSlotsAddress()
    {
        // blrab x16, x17
        DisplacedInstruction instruction = Decode(0xd73f_0e11);
        SlotLayout layout = Build(instruction, Near, out uint[] slot);
        Assert.That(slot[0], Is.EqualTo(0xdac1_162fu), "autib x15, x17");
        Assert.That(layout.CanContinue, Is.False);
        Assert.That((int)layout.BorrowedRegister, Is.EqualTo(15));
        Assert.That((int)layout.BorrowedSource, Is.EqualTo(16));
        RegisterSet registers = State();
        registers[Arm64Register.X15] = 0x5678;
        registers.ProgramCounter = Near + 4;
        Isa.NormalizeSlotPosition(instruction, layout, Near, ref registers);
        Assert.That(registers.ProgramCounter, Is.EqualTo(0x5678));
        Assert.That(registers[Arm64Register.X30], Is.EqualTo(Pc + 4));
    }

    [TestCase(0x1400_0000u)]
    [TestCase(0x9400_0000u)]
    [TestCase(0xd65f_03c0u)]
    [TestCase(0x5400_0000u)]
    [TestCase(0x1000_0000u)]
    public void BranchesAndAddressesNeverGoToSlots(uint word)
    {
        Assert.That(Isa.TryBuildSlot(Decode(word), Near, new byte[32], out _, out ProbeRefusal reason), Is.False);
        Assert.That(reason, Is.EqualTo(ProbeRefusal.NotForSlots));
    }

    [Test]
    public void ArgumentsAreInEightRegistersAndThenOnTheStack()
    {
        RegisterSet registers = State();
        WindowMemory memory = new();
        byte[] stack = memory.Add(Page, new byte[16]);
        BinaryPrimitives.WriteUInt64LittleEndian(stack.AsSpan(8), 77);
        for (int i = 0; i < 8; i++)
        {
            registers[Arm64Register.X0 + i] = (ulong)(100 + i);
            Assert.That(Isa.TryGetArgument(registers, memory, i, out ulong value), Is.True);
            Assert.That(value, Is.EqualTo((ulong)(100 + i)));
        }

        Assert.That(Isa.TryGetArgument(registers, memory, 9, out ulong ninth), Is.True);
        Assert.That(ninth, Is.EqualTo(77));
        Assert.That(Isa.TryGetArgument(registers, memory, 10, out _), Is.False);
        Assert.That(() => Isa.TryGetArgument(registers, memory, -1, out _), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [TestCase(true)]
    [TestCase(false)]
    public void ATouchAccessesItsByteAndEndsAtItsTrap(bool write)
    {
        if (UnicornMachine.WhyMissing is { } missing)
        {
            Assert.Ignore(missing);
        }

        using UnicornMachine machine = new();
        TouchCode touch = Isa.BuildTouch(machine.Map(0x10000, 4096, true), write);
        Assert.That(touch.Length, Is.LessThanOrEqualTo(Isa.TouchLength));
        Span<byte> data = machine.Map(0x20000, 4096, false);
        data[5] = 99;
        RegisterSet registers = new(Architecture.Arm64) { ProgramCounter = 0x10000 };
        Isa.SetTouchAddress(ref registers, 0x20005);
        Arm64State state = default;
        state.Take(registers);
        for (int steps = 0; state.Pc != 0x10000 + (ulong)touch.TrapOffset; steps++)
        {
            Assert.That(steps, Is.LessThan(10));
            Assert.That(machine.Step(ref state, state.Pc), Is.Zero);
        }

        Assert.That(data[5], Is.EqualTo(99));
        registers.ProgramCounter = 0x10000;
        Isa.SetTouchAddress(ref registers, 0x30000);
        state.Take(registers);
        int error = 0;
        for (int steps = 0; error == 0 && steps < 3; steps++)
        {
            error = machine.Step(ref state, state.Pc);
        }

        Assert.That(error, Is.Not.Zero, "an access to nowhere");
    }

    [Test, NonParallelizable]
    public void EmulationAllocatesNothing()
    {
        WindowMemory memory = new();
        memory.Add(Page - 4096, new byte[8192]);
        uint[] words = [0xa9bf_7bfd, 0xa8c1_7bfd, 0xd65f_03c0, 0x9400_0000, 0x3607_ff60, 0xeb02_003f, 0x9100_03fd, 0xd503_245f];
        DisplacedInstruction[] instructions = [.. words.Select(Decode)];
        RegisterSet registers = State();
        Run(10);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Run(10_000);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);

        void Run(int times)
        {
            for (int i = 0; i < times; i++)
            {
                foreach (ref readonly DisplacedInstruction instruction in instructions.AsSpan())
                {
                    Isa.Emulate(instruction, ref registers, memory, out _);
                }
            }
        }
    }

    private static void AssertPosition(
        in DisplacedInstruction instruction, in SlotLayout layout, ulong slotAddress, int offset, SlotPosition position, ulong pc)
    {
        RegisterSet registers = State();
        registers.ProgramCounter = slotAddress + (ulong)offset;
        Assert.That(Isa.NormalizeSlotPosition(instruction, layout, slotAddress, ref registers), Is.EqualTo(position), $"offset {offset}");
        Assert.That(registers.ProgramCounter, Is.EqualTo(pc), $"offset {offset}");
    }

    private static SlotLayout Build(in DisplacedInstruction instruction, ulong slotAddress, out uint[] slot)
    {
        byte[] bytes = new byte[Isa.SlotLength];
        Assert.That(Isa.TryBuildSlot(instruction, slotAddress, bytes, out SlotLayout layout, out ProbeRefusal reason), Is.True, reason.ToString());
        slot = MemoryMarshal.Cast<byte, uint>(bytes).ToArray();
        return layout;
    }

    private static RegisterSet State()
    {
        RegisterSet registers = new(Architecture.Arm64) { ProgramCounter = Pc };
        registers[Arm64Register.X0] = 0x5000;
        registers[Arm64Register.X2] = Page + 4096 - 4;
        registers[Arm64Register.X30] = 0x1234;
        registers[Arm64Register.Sp] = Page;
        return registers;
    }

    private static DisplacedInstruction Decode(uint word)
    {
        Assert.That(TryDecode(word, Pc, out DisplacedInstruction instruction, out ProbeRefusal reason), Is.True, reason.ToString());
        return instruction;
    }

    private static bool TryDecode(uint word, ulong pc, out DisplacedInstruction instruction, out ProbeRefusal reason)
    {
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, word);
        return Isa.TryDecode(bytes, pc, out instruction, out reason);
    }
}
