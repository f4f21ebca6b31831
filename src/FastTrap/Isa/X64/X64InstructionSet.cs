using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Isa.X64;

/// <summary>x86-64 in 64-bit mode.</summary>
internal sealed class X64InstructionSet : InstructionSet
{
    /// <summary>The integer arguments of the System V ABI.</summary>
    private static readonly X64Register[] s_argumentOrder =
        [X64Register.Rdi, X64Register.Rsi, X64Register.Rdx, X64Register.Rcx, X64Register.R8, X64Register.R9];

    private X64InstructionSet()
    {
    }

    public static X64InstructionSet Instance { get; } = new();

    public override Architecture Architecture => Architecture.X64;

    public override ReadOnlySpan<byte> TrapBytes => [0xcc];

    public override bool TrapAdvancesProgramCounter => true;

    public override int MaxInstructionLength => X64Classifier.MaxInstructionLength;

    public override int InstructionAlignment => 1;

    public override ReadOnlySpan<byte> SystemCallBytes => [0x0f, 0x05];

    public override int SlotLength => X64Slots.Length;

    public override ulong SlotReach => RemoteMemoryMap.NearReach;

    public override ulong FarSlotReach => RemoteMemoryMap.NearReach;

    public override int TouchLength => 14;

    public override bool TryDecode(ReadOnlySpan<byte> bytes, ulong pc, out DisplacedInstruction instruction, out ProbeRefusal reason) =>
        X64Classifier.TryDecode(bytes, pc, out instruction, out reason);

    public override EmulationOutcome Emulate(
        in DisplacedInstruction instruction, ref RegisterSet registers, ITargetMemory memory, out ulong faultAddress) =>
        X64Emulator.Run(instruction, ref registers, memory, out faultAddress);

    public override bool TryBuildSlot(
        in DisplacedInstruction instruction, ulong slotAddress, Span<byte> slot, out SlotLayout layout, out ProbeRefusal reason) =>
        X64Slots.TryBuild(instruction, slotAddress, slot, out layout, out reason);

    public override SlotPosition NormalizeSlotPosition(
        in DisplacedInstruction instruction, in SlotLayout layout, ulong slotAddress, ref RegisterSet registers) =>
        X64Slots.Normalize(instruction, layout, slotAddress, ref registers);

    public override bool TryGetArgument(in RegisterSet registers, ITargetMemory memory, int index, out ulong value)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        if (index < s_argumentOrder.Length)
        {
            value = registers[s_argumentOrder[index]];
            return true;
        }

        // Behind the return address.
        ulong address = registers[X64Register.Rsp] + (sizeof(ulong) * (ulong)(index - s_argumentOrder.Length + 1));
        return X64Memory.TryLoad(memory, address, sizeof(ulong), out value, out _);
    }

    public override bool TryScanFunction(ReadOnlySpan<byte> code, ulong address, FunctionScan result, out ProbeRefusal reason) =>
        X64FunctionScanner.TryScan(code, address, result, out reason);

    public override TouchCode BuildTouch(Span<byte> code, bool write)
    {
        // With carry, through the stack segment (rbp), whose faults are others. lock orb $0 writes what is there, whatever another thread does meanwhile.
        ReadOnlySpan<byte> touch = write
            ? [0x72, 0x06, 0xf0, 0x80, 0x08, 0x00, 0xeb, 0x05, 0xf0, 0x80, 0x4d, 0x00, 0x00, 0xcc]
            : [0x72, 0x04, 0x8a, 0x00, 0xeb, 0x03, 0x8a, 0x45, 0x00, 0xcc];
        touch.CopyTo(code);
        return new TouchCode(touch.Length, touch.Length - 1);
    }

    public override void SetTouchAddress(ref RegisterSet registers, ulong address)
    {
        registers[X64Register.Rax] = address;
        registers[X64Register.Eflags] &= ~X64Flags.Carry;
    }

    /// <summary>An impossible address is a general protection fault, but on the stack a stack fault: another signal.</summary>
    public override void SetTouchAddress(in DisplacedInstruction instruction, ref RegisterSet registers, ulong address)
    {
        bool isStack = X64Emulator.IsStackAccess(instruction, registers, address);
        SetTouchAddress(ref registers, address);
        if (isStack)
        {
            registers[X64Register.Rbp] = address;
            registers[X64Register.Eflags] |= X64Flags.Carry;
        }
    }
}
