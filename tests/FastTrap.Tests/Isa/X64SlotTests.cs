using System.Buffers.Binary;
using System.Numerics;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using Iced.Intel;
using NUnit.Framework;

namespace FastTrap.Tests.Isa;

/// <summary>What stands in slots, read with a disassembler.</summary>
[TestFixture]
internal sealed class X64SlotTests
{
    private const ulong Pc = 0x7f00_1234_5678;
    private const ulong Near = 0x7f00_2000_0000;
    private const ulong Far = 0x5500_0000_0040;

    /// <summary>Instructions with a rip-relative operand; the four bytes 44 33 22 11 are the displacement.</summary>
    public static readonly string[] RipRelative =
    [
        "0105 44332211", "0FAF05 44332211", "0FC70D 44332211", "6905 44332211 78563412", "C605 44332211 7F", "8005 44332211 80",
        "F0480FB10D 44332211", "660F6F05 44332211", "0F1005 44332211", "F30F38F605 44332211", "660F3A0F05 44332211 03",
        "4C0FAF3D 44332211", "48F725 44332211", "D905 44332211", "480FC70D 44332211", "8A25 44332211", "64480305 44332211", "FE05 44332211",
        "C5F85805 44332211", "C4E3790F05 44332211 05", "C4E278F205 44332211", "C4E2F3F605 44332211", "C4413D5805 44332211", "C5FD6F3D 44332211",
        "62F17C485805 44332211", "62F37D083E05 44332211 02", "62F17C585805 44332211", "62617D486F25 44332211", "62F1FE487F05 44332211",
        "8FE878A205 44332211 10", "8FE9789005 44332211", "C705 44332211 78563412", "488D05 44332211", "488B0D 44332211", "833D 44332211 00",
        "FF35 44332211", "C125 44332211 05", "0F0105 44332211", "0FAE05 44332211", "4881 25 44332211 00000080",
        "0F0F05 44332211 9E", "3E65F2480F0005 44332211", "66490F6E05 44332211", "660F380005 44332211", "C4417C1005 44332211", "62D17C485805 44332211",
    ];

    [TestCaseSource(nameof(RipRelative))]
    public void BothPartsKeepTheOperandsAddress(string hex)
    {
        byte[] bytes = Bytes(hex);
        DisplacedInstruction displaced = Decode(bytes);
        Instruction original = Disassemble(bytes, Pc);
        Assert.That(original.IsIPRelativeMemoryOperand, Is.True, "not a good sample");
        byte[] slot = new byte[64];
        Assert.That(X64InstructionSet.Instance.TryBuildSlot(displaced, Near, slot, out SlotLayout layout, out _), Is.True);
        Assert.That(layout.Borrows, Is.False);

        foreach (int part in new[] { layout.ContinueOffset, layout.TrapPartOffset })
        {
            Instruction copy = Disassemble(slot.AsSpan(part).ToArray(), Near + (ulong)part);
            Assert.That(copy.IPRelativeMemoryAddress, Is.EqualTo(original.IPRelativeMemoryAddress));
            AssertSameBytesButDisplacement(bytes, slot.AsSpan(part, bytes.Length));
        }

        Instruction jump = Disassemble(slot.AsSpan(layout.ContinueJumpOffset).ToArray(), Near + (ulong)layout.ContinueJumpOffset);
        Assert.That(jump.Code, Is.EqualTo(Code.Jmp_rel32_64));
        Assert.That(jump.NearBranchTarget, Is.EqualTo(Pc + (ulong)bytes.Length));
        Assert.That(slot[layout.TrapOffset], Is.EqualTo(0xcc));
        Assert.That((int)layout.TrapOffset, Is.EqualTo(layout.TrapPartOffset + bytes.Length));
    }

    [TestCaseSource(nameof(RipRelative))]
    public void OutOfReachAnUnusedRegisterIsBorrowed(string hex)
    {
        byte[] bytes = Bytes(hex);
        DisplacedInstruction displaced = Decode(bytes);
        Instruction original = Disassemble(bytes, Pc);
        byte[] slot = new byte[64];
        Assert.That(X64InstructionSet.Instance.TryBuildSlot(displaced, Far, slot, out SlotLayout layout, out _), Is.True);
        Assert.That(layout.Borrows, Is.True);
        Assert.That(layout.CanContinue, Is.False, "the register would never be restored");
        Assert.That(layout.BorrowedValue, Is.EqualTo(original.IPRelativeMemoryAddress));

        Instruction copy = Disassemble(slot, Far);
        Assert.That(copy.Code, Is.EqualTo(original.Code));
        Assert.That(copy.Length, Is.EqualTo(layout.InstructionLength));
        Assert.That(slot[layout.TrapOffset], Is.EqualTo(0xcc));
        Assert.That(copy.MemoryDisplacement64, Is.Zero);
        Assert.That(copy.MemoryIndex, Is.EqualTo(Register.None));
        Assert.That((int)X64Registers.WordOf(copy.MemoryBase), Is.EqualTo((int)layout.BorrowedRegister));

        // Prefixes stay, though they mean nothing: the kernel, which carries out some instructions itself, looks at them. One bit extends the register's number.
        Assert.That(copy.Length, Is.EqualTo(bytes.Length - 4));
        int modRm = displaced.DisplacementOffset - 1;
        Assert.That(bytes[..modRm].Zip(slot).Sum(p => BitOperations.PopCount((uint)(p.First ^ p.Second))), Is.LessThanOrEqualTo(1));
        Assert.That(slot[(modRm + 1)..copy.Length], Is.EqualTo(bytes[(modRm + 5)..]));
        foreach (UsedRegister used in new InstructionInfoFactory().GetInfo(original).GetUsedRegisters())
        {
            Assert.That(used.Register.GetFullRegister(), Is.Not.EqualTo(copy.MemoryBase), "in use");
        }

        // Everything but the address is as it was.
        copy.MemoryBase = original.MemoryBase;
        copy.MemoryDisplacement64 = original.MemoryDisplacement64;
        copy.MemoryDisplSize = original.MemoryDisplSize;
        Assert.That(copy, Is.EqualTo(original));
    }

    [Test]
    public void AnEipRelativeOperandIsAlwaysInReach()
    {
        byte[] bytes = Bytes("670105 44332211");
        Instruction original = Disassemble(bytes, Pc);
        byte[] slot = new byte[64];
        Assert.That(X64InstructionSet.Instance.TryBuildSlot(Decode(bytes), Far, slot, out SlotLayout layout, out _), Is.True);
        Assert.That(layout.Borrows, Is.False);
        Assert.That(Disassemble(slot, Far).IPRelativeMemoryAddress, Is.EqualTo(original.IPRelativeMemoryAddress));
        ulong second = Far + (ulong)layout.TrapPartOffset;
        Assert.That(Disassemble(slot.AsSpan(layout.TrapPartOffset).ToArray(), second).IPRelativeMemoryAddress, Is.EqualTo(original.IPRelativeMemoryAddress));
    }

    [Test]
    public void AFarSlotJumpsBackThroughMemory()
    {
        byte[] slot = new byte[64];
        Assert.That(X64InstructionSet.Instance.TryBuildSlot(Decode(Bytes("0FAFC3")), Far, slot, out SlotLayout layout, out _), Is.True);
        Instruction jump = Disassemble(slot.AsSpan(layout.ContinueJumpOffset).ToArray(), Far + (ulong)layout.ContinueJumpOffset);
        Assert.That(jump.Code, Is.EqualTo(Code.Jmp_rm64));
        int at = (int)(jump.IPRelativeMemoryAddress - Far);
        Assert.That(BinaryPrimitives.ReadUInt64LittleEndian(slot.AsSpan(at)), Is.EqualTo(Pc + 3));
    }

    [TestCase(Near)]
    [TestCase(Far)]
    public void ATransactionAbortsToItsOwnAddress(ulong slotAddress)
    {
        byte[] bytes = Bytes("C7F8 44332211");
        DisplacedInstruction displaced = Decode(bytes);
        ulong abort = Pc + 6 + 0x11223344;
        byte[] slot = new byte[64];
        Assert.That(X64InstructionSet.Instance.TryBuildSlot(displaced, slotAddress, slot, out SlotLayout layout, out _), Is.True);
        foreach (int part in new[] { layout.ContinueOffset, layout.TrapPartOffset })
        {
            ulong target = Disassemble(slot.AsSpan(part).ToArray(), slotAddress + (ulong)part).NearBranchTarget;
            if (layout.AbortOffset != SlotLayout.Missing)
            {
                Assert.That(target, Is.EqualTo(slotAddress + (ulong)layout.AbortOffset));
                Instruction jump = Disassemble(slot.AsSpan(layout.AbortOffset).ToArray(), target);
                target = BinaryPrimitives.ReadUInt64LittleEndian(slot.AsSpan((int)(jump.IPRelativeMemoryAddress - slotAddress)));
            }

            Assert.That(target, Is.EqualTo(abort));
        }

        Assert.That(layout.AbortOffset == SlotLayout.Missing, Is.EqualTo(slotAddress == Near));
        if (slotAddress == Far)
        {
            RegisterSet registers = At(Far + (ulong)layout.AbortOffset);
            Assert.That(X64InstructionSet.Instance.NormalizeSlotPosition(displaced, layout, Far, ref registers), Is.EqualTo(SlotPosition.After));
            Assert.That(registers.ProgramCounter, Is.EqualTo(abort));
        }
    }

    [Test]
    public void PositionsAreAsWithoutTheSlot()
    {
        DisplacedInstruction displaced = Decode(Bytes("0FAFC3"));
        byte[] slot = new byte[64];
        X64InstructionSet.Instance.TryBuildSlot(displaced, Near, slot, out SlotLayout layout, out _);
        AssertPosition(displaced, layout, 0, SlotPosition.Before, Pc);
        AssertPosition(displaced, layout, 3, SlotPosition.After, Pc + 3);
        AssertPosition(displaced, layout, 8, SlotPosition.Before, Pc);
        AssertPosition(displaced, layout, 11, SlotPosition.After, Pc + 3);
        AssertPosition(displaced, layout, 12, SlotPosition.Trapped, Pc + 3);
        AssertPosition(displaced, layout, -1, SlotPosition.Outside, Near - 1);
        AssertPosition(displaced, layout, 64, SlotPosition.Outside, Near + 64);
    }

    [Test]
    public void BehindASystemCallRcxIsTheOriginalNextAddress()
    {
        DisplacedInstruction displaced = Decode([0x0f, 0x05]);
        Assert.That(displaced.Has(DisplacedTraits.SystemCall), Is.True);
        byte[] slot = new byte[64];
        X64InstructionSet.Instance.TryBuildSlot(displaced, Near, slot, out SlotLayout layout, out _);
        foreach (int part in new[] { layout.ContinueOffset, layout.TrapPartOffset })
        {
            Instruction load = Disassemble(slot.AsSpan(part + 2).ToArray(), Near);
            Assert.That(load.Code, Is.EqualTo(Code.Mov_r64_imm64));
            Assert.That(load.Op0Register, Is.EqualTo(Register.RCX));
            Assert.That(load.Immediate64, Is.EqualTo(Pc + 2));
            RegisterSet before = AssertPosition(displaced, layout, part, SlotPosition.Before, Pc);
            Assert.That(before[X64Register.Rcx], Is.EqualTo(0x77), "not executed yet");
            RegisterSet middle = AssertPosition(displaced, layout, part + 2, SlotPosition.After, Pc + 2);
            Assert.That(middle[X64Register.Rcx], Is.EqualTo(Pc + 2));
            AssertPosition(displaced, layout, part + 12, SlotPosition.After, Pc + 2);
        }

        AssertPosition(displaced, layout, layout.TrapOffset + 1, SlotPosition.Trapped, Pc + 2);
    }

    [TestCase("E800000000")]
    [TestCase("7410")]
    [TestCase("C3")]
    [TestCase("FFE0")]
    [TestCase("FF15 44332211")]
    [TestCase("E310")]
    public void BranchesNeverGoToSlots(string hex)
    {
        DisplacedInstruction displaced = Decode(Bytes(hex));
        Assert.That(displaced.Has(DisplacedTraits.SlotPossible), Is.False);
        Assert.That(X64InstructionSet.Instance.TryBuildSlot(displaced, Near, new byte[64], out _, out ProbeRefusal reason), Is.False);
        Assert.That(reason, Is.EqualTo(ProbeRefusal.NotForSlots));
    }

    private static RegisterSet AssertPosition(in DisplacedInstruction displaced, in SlotLayout layout, int offset, SlotPosition position, ulong pc)
    {
        RegisterSet registers = At(Near + (ulong)offset);
        Assert.That(X64InstructionSet.Instance.NormalizeSlotPosition(displaced, layout, Near, ref registers), Is.EqualTo(position), $"offset {offset}");
        Assert.That(registers.ProgramCounter, Is.EqualTo(pc), $"offset {offset}");
        return registers;
    }

    private static RegisterSet At(ulong pc)
    {
        RegisterSet registers = new(System.Runtime.InteropServices.Architecture.X64) { ProgramCounter = pc };
        registers[X64Register.Rcx] = 0x77;
        return registers;
    }

    private static void AssertSameBytesButDisplacement(byte[] original, ReadOnlySpan<byte> copy)
    {
        int displacement = original.AsSpan().IndexOf((ReadOnlySpan<byte>)[0x44, 0x33, 0x22, 0x11]);
        Assert.That(copy[..displacement].SequenceEqual(original.AsSpan(0, displacement)), Is.True);
        Assert.That(copy[(displacement + 4)..].SequenceEqual(original.AsSpan(displacement + 4)), Is.True);
    }

    private static byte[] Bytes(string hex) => Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal));

    private static DisplacedInstruction Decode(byte[] bytes)
    {
        Assert.That(X64InstructionSet.Instance.TryDecode(bytes, Pc, out DisplacedInstruction displaced, out ProbeRefusal reason), Is.True, reason.ToString());
        Assert.That((int)displaced.Length, Is.EqualTo(bytes.Length));
        return displaced;
    }

    private static Instruction Disassemble(byte[] bytes, ulong address) => Decoder.Create(64, bytes, address).Decode();
}
