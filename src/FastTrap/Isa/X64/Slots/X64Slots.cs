using System.Buffers.Binary;
using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>
/// Builds slots: <c>instruction; jmp next</c> and <c>instruction; int3</c>, one behind the other, so that one slot serves threads which
/// go on by themselves and threads which are waited for.
/// </summary>
/// <remarks>Source: fasttrap_isa.c, fasttrap_pid_probe, case FASTTRAP_T_COMMON.</remarks>
internal static class X64Slots
{
    public const int Length = 64;
    private const byte Trap = 0xcc;
    private const byte SystemCallOpcode = 0x05;
    private const int LoadNextLength = 10;
    private const int FarJumpLength = 14;
    private const int AbortStub = Length - FarJumpLength;

    public static bool TryBuild(
        in DisplacedInstruction instruction, ulong slotAddress, Span<byte> slot, out SlotLayout layout, out ProbeRefusal reason)
    {
        slot = slot[..Length];
        slot.Fill(Trap);
        layout = new SlotLayout();
        reason = ProbeRefusal.None;
        if (!instruction.Has(DisplacedTraits.SlotPossible))
        {
            reason = ProbeRefusal.NotForSlots;
            return false;
        }

        int length = instruction.Length;
        int tail = LeavesNext(instruction) ? LoadNextLength : 0;
        bool stub = false;
        if (!TryCopy(instruction, slotAddress, slot, 0, ref stub))
        {
            return X64BorrowedSlots.TryBuild(instruction, slot, out layout, out reason);
        }

        int jump = length + tail;
        if (tail != 0)
        {
            WriteLoadNext(slot[length..], instruction.NextAddress);
        }

        int second = jump + WriteJump(slot[jump..], slotAddress + (ulong)jump, instruction.NextAddress);
        if (!TryCopy(instruction, slotAddress, slot, second, ref stub))
        {
            return X64BorrowedSlots.TryBuild(instruction, slot, out layout, out reason);
        }

        if (tail != 0)
        {
            WriteLoadNext(slot[(second + length)..], instruction.NextAddress);
        }

        if (stub)
        {
            WriteFarJump(slot[AbortStub..], instruction.Immediate);
        }

        layout = new SlotLayout
        {
            ContinueOffset = 0,
            ContinueJumpOffset = (sbyte)jump,
            TrapPartOffset = (sbyte)second,
            TrapOffset = (sbyte)(second + jump),
            AbortOffset = (sbyte)(stub ? AbortStub : SlotLayout.Missing),
            InstructionLength = (byte)length,
        };
        return true;
    }

    public static SlotPosition Normalize(
        in DisplacedInstruction instruction, in SlotLayout layout, ulong slotAddress, ref RegisterSet registers)
    {
        ulong offset = registers.ProgramCounter - slotAddress;
        if (offset >= Length)
        {
            return SlotPosition.Outside;
        }

        int at = (int)offset;
        if (at == layout.ContinueOffset || at == layout.TrapPartOffset)
        {
            registers.ProgramCounter = instruction.Address;
            return SlotPosition.Before;
        }

        if (layout.AbortOffset != SlotLayout.Missing && at == layout.AbortOffset)
        {
            registers.ProgramCounter = instruction.Immediate;
            return SlotPosition.After;
        }

        registers.ProgramCounter = instruction.NextAddress;
        if (LeavesNext(instruction))
        {
            registers[X64Register.Rcx] = instruction.NextAddress;
        }

        return at == layout.TrapOffset + 1 ? SlotPosition.Trapped : SlotPosition.After;
    }

    /// <summary>Writes the instruction to <paramref name="offset"/>, its relative operands adjusted; false if they do not reach.</summary>
    private static bool TryCopy(in DisplacedInstruction instruction, ulong slotAddress, Span<byte> slot, int offset, ref bool stub)
    {
        Span<byte> copy = slot[offset..];
        instruction.Bytes.CopyTo(copy);
        ulong next = slotAddress + (ulong)(offset + instruction.Length);
        if (instruction.Has(DisplacedTraits.PcRelative))
        {
            long distance = (long)(instruction.Displacement - next);
            if (instruction.AddressSize == sizeof(uint))
            {
                // Relative to eip: the sum is cut to 32 bits, so everything is in reach.
                distance = (int)distance;
            }

            if (distance != (int)distance)
            {
                return false;
            }

            BinaryPrimitives.WriteInt32LittleEndian(copy[instruction.DisplacementOffset..], (int)distance);
        }

        if (instruction.Has(DisplacedTraits.BeginsTransaction))
        {
            long distance = (long)(instruction.Immediate - next);
            if (distance != (int)distance)
            {
                stub = true;
                distance = (long)(slotAddress + AbortStub - next);
            }

            BinaryPrimitives.WriteInt32LittleEndian(copy[(instruction.Length - sizeof(int))..], (int)distance);
        }

        return true;
    }

    /// <summary>syscall leaves its return address in rcx; int 0x80, the other system call, does not.</summary>
    private static bool LeavesNext(in DisplacedInstruction instruction) =>
        instruction.Has(DisplacedTraits.SystemCall) && instruction.Bytes[^1] == SystemCallOpcode;

    /// <summary>The original return address must be seen in rcx.</summary>
    private static void WriteLoadNext(Span<byte> code, ulong next)
    {
        code[0] = 0x48;
        code[1] = 0xb9;
        BinaryPrimitives.WriteUInt64LittleEndian(code[2..], next);
    }

    private static int WriteJump(Span<byte> code, ulong address, ulong target)
    {
        const int NearLength = 5;
        long distance = (long)(target - (address + NearLength));
        if (distance != (int)distance)
        {
            WriteFarJump(code, target);
            return FarJumpLength;
        }

        code[0] = 0xe9;
        BinaryPrimitives.WriteInt32LittleEndian(code[1..], (int)distance);
        return NearLength;
    }

    private static void WriteFarJump(Span<byte> code, ulong target)
    {
        code[0] = 0xff;
        code[1] = 0x25;
        BinaryPrimitives.WriteInt32LittleEndian(code[2..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(code[6..], target);
    }
}
