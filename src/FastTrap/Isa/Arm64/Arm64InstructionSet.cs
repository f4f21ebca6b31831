using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace FastTrap.Isa.Arm64;

/// <summary>A64, the instruction set of 64-bit Arm programs.</summary>
internal sealed class Arm64InstructionSet : InstructionSet
{
    /// <summary>The arguments in registers by AAPCS64: x0 to x7.</summary>
    private const int RegisterArguments = 8;

    private static readonly uint[] s_readTouch = [0x3940_0000, Arm64Slots.Trap];

    /// <summary>1: ldxrb w1,[x0]; stxrb w2,w1,[x0]; cbnz w2,1b: writes what is there, whatever another thread does meanwhile, on every processor.</summary>
    private static readonly uint[] s_writeTouch = [0x085f_7c01, 0x0802_7c01, 0x35ff_ffc2, Arm64Slots.Trap];

    private Arm64InstructionSet()
    {
    }

    public static Arm64InstructionSet Instance { get; } = new();

    public override Architecture Architecture => Architecture.Arm64;

    /// <summary>brk #0: the kernel uses 4 and 5 for its own probes.</summary>
    public override ReadOnlySpan<byte> TrapBytes => [0x00, 0x00, 0x20, 0xd4];

    public override bool TrapAdvancesProgramCounter => false;

    public override int MaxInstructionLength => Arm64Classifier.InstructionLength;

    public override int InstructionAlignment => Arm64Classifier.InstructionLength;

    public override ReadOnlySpan<byte> SystemCallBytes => [0x01, 0x00, 0x00, 0xd4];

    public override int SlotLength => Arm64Slots.Length;

    public override ulong SlotReach => Arm64Slots.BranchReach;

    /// <summary>Slots anywhere can trap, although not go on.</summary>
    public override ulong FarSlotReach => 1UL << 47;

    public override int TouchLength => s_writeTouch.Length * sizeof(uint);

    public override bool TryDecode(ReadOnlySpan<byte> bytes, ulong pc, out DisplacedInstruction instruction, out ProbeRefusal reason) =>
        Arm64Classifier.TryDecode(bytes, pc, out instruction, out reason);

    public override EmulationOutcome Emulate(
        in DisplacedInstruction instruction, ref RegisterSet registers, ITargetMemory memory, out ulong faultAddress) =>
        Arm64Emulator.Run(instruction, ref registers, memory, out faultAddress);

    public override bool TryBuildSlot(
        in DisplacedInstruction instruction, ulong slotAddress, Span<byte> slot, out SlotLayout layout, out ProbeRefusal reason) =>
        Arm64Slots.TryBuild(instruction, slotAddress, slot, out layout, out reason);

    public override SlotPosition NormalizeSlotPosition(
        in DisplacedInstruction instruction, in SlotLayout layout, ulong slotAddress, ref RegisterSet registers) =>
        Arm64Slots.Normalize(instruction, layout, slotAddress, ref registers);

    public override bool TryGetArgument(in RegisterSet registers, ITargetMemory memory, int index, out ulong value)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        RegisterSet copy = registers;
        if (index < RegisterArguments)
        {
            value = copy[Arm64Register.X0 + index];
            return true;
        }

        Span<byte> buffer = stackalloc byte[sizeof(ulong)];
        ulong address = copy[Arm64Register.Sp] + (sizeof(ulong) * (ulong)(index - RegisterArguments));
        bool ok = Arm64Memory.TryLoad(memory, address, buffer, out _);
        value = ok ? BinaryPrimitives.ReadUInt64LittleEndian(buffer) : 0;
        return ok;
    }

    public override bool TryScanFunction(ReadOnlySpan<byte> code, ulong address, FunctionScan result, out ProbeRefusal reason) =>
        Arm64FunctionScanner.TryScan(code, address, result, out reason);

    public override TouchCode BuildTouch(Span<byte> code, bool write)
    {
        uint[] touch = write ? s_writeTouch : s_readTouch;
        for (int i = 0; i < touch.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(code[(i * sizeof(uint))..], touch[i]);
        }

        return new TouchCode(touch.Length * sizeof(uint), (touch.Length - 1) * sizeof(uint));
    }

    public override void SetTouchAddress(ref RegisterSet registers, ulong address) => registers[Arm64Register.X0] = address;
}
