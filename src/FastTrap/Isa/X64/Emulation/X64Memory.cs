using System.Buffers.Binary;
using FastTrap.Native;

namespace FastTrap.Isa.X64;

/// <summary>The memory accesses of emulated instructions: whole or not at all, also across a page boundary, with the address of the fault.</summary>
internal static class X64Memory
{
    private const ulong PageLength = 4096;

    /// <summary>Reads <paramref name="size"/> bytes, zero-extended.</summary>
    public static bool TryLoad(ITargetMemory memory, ulong address, int size, out ulong value, out ulong faultAddress)
    {
        Span<byte> buffer = stackalloc byte[sizeof(ulong)];
        buffer.Clear();
        value = 0;
        int low = LengthInPage(address, size);
        faultAddress = FirstToFault(address, low, size);
        if (faultAddress != address || !memory.TryRead(address, buffer[..low]))
        {
            return false;
        }

        faultAddress = address + (ulong)low;
        if (low < size && !memory.TryRead(faultAddress, buffer[low..size]))
        {
            return false;
        }

        faultAddress = 0;
        value = BinaryPrimitives.ReadUInt64LittleEndian(buffer);
        return true;
    }

    /// <summary>Writes the low <paramref name="size"/> bytes of <paramref name="value"/>.</summary>
    public static bool TryStore(ITargetMemory memory, ulong address, int size, ulong value, out ulong faultAddress)
    {
        Span<byte> buffer = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(buffer, value);
        int low = LengthInPage(address, size);
        faultAddress = address;
        if (low == size)
        {
            return memory.TryWrite(address, buffer[..size]);
        }

        // The lower page first, as the processor does, and back again if the upper one refuses: a fault changes nothing.
        faultAddress = FirstToFault(address, low, size);
        Span<byte> before = stackalloc byte[sizeof(ulong)];
        before = before[..low];
        if (faultAddress != address || !memory.TryRead(address, before) || !memory.TryWrite(address, buffer[..low]))
        {
            return false;
        }

        faultAddress = address + (ulong)low;
        if (memory.TryWrite(faultAddress, buffer[low..size]))
        {
            return true;
        }

        _ = memory.TryWrite(address, before);
        return false;
    }

    /// <summary>Whether a jump there gets as far as a page fault.</summary>
    public static bool IsCanonical(ulong address)
    {
        int unused = 64 - Processor.AddressBits;
        return (long)address << unused >> unused == (long)address;
    }

    /// <summary>An access that reaches into impossible addresses faults there, whatever its first page is.</summary>
    private static ulong FirstToFault(ulong address, int low, int size) =>
        low < size && IsCanonical(address) && !IsCanonical(address + (ulong)low) ? address + (ulong)low : address;

    private static int LengthInPage(ulong address, int size) => (int)Math.Min((ulong)size, PageLength - (address & (PageLength - 1)));
}
