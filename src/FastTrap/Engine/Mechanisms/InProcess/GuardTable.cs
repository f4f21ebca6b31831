using System.Numerics;
using System.Runtime.CompilerServices;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Which trap leads to which trampoline, in memory that the guard's code reads in the target while it is being written here.</summary>
/// <remarks>
/// A mask, and entries of two words from <see cref="EntriesOffset"/> on: the trap's address, which once written stays, and where it leads; 0: it leads no more, and the instruction is restarted. Open addressing. A reader stops at the
/// first entry without an address, so the second word is written before the first. It is never more than half full. Control thread only.
/// </remarks>
internal sealed unsafe class GuardTable
{
    public const int EntriesOffset = 64;
    public const int EntryLength = 16;

    /// <summary>By which addresses are spread; the upper half of the product counts.</summary>
    public const ulong HashMultiplier = 0x9E37_79B9_7F4A_7C15;

    private readonly byte* _start;
    private readonly int _mask;
    private int _used;

    /// <summary>Makes an empty one in memory of zeros.</summary>
    /// <param name="memory">The memory.</param>
    /// <param name="offset">Where it begins there.</param>
    /// <param name="capacity">Entries, a power of two.</param>
    /// <param name="address">Where it begins in the target.</param>
    public GuardTable(SharedMemory memory, int offset, int capacity, ulong address)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(BitOperations.IsPow2(capacity), true, nameof(capacity));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset + LengthOf(capacity), memory.Length, nameof(capacity));
        _start = memory.Start + offset;
        _mask = capacity - 1;
        Address = address;
        *(ulong*)_start = (ulong)_mask;
    }

    /// <summary>Where it is in the target.</summary>
    public ulong Address { get; }

    public static long LengthOf(long capacity) => EntriesOffset + (capacity * EntryLength);

    public bool HasRoom(int more) => ((long)_used + more) * 2 <= _mask + 1;

    /// <summary>How many entries a table needs that holds what leads in this one, and more.</summary>
    public int CapacityFor(int more) => (int)BitOperations.RoundUpToPowerOf2((uint)((_used + more) * 4));

    /// <summary>A trap at an address leads somewhere from now on. False if there is no room.</summary>
    public bool TryAdd(ulong trap, ulong target)
    {
        ulong* entry = Find(trap);
        if (*entry == 0 && !HasRoom(1))
        {
            return false;
        }

        Volatile.Write(ref Unsafe.AsRef<ulong>(entry + 1), target);
        if (*entry == 0)
        {
            Volatile.Write(ref Unsafe.AsRef<ulong>(entry), trap);
            _used++;
        }

        return true;
    }

    /// <summary>It leads nowhere any more.</summary>
    public void End(ulong trap)
    {
        ulong* entry = Find(trap);
        if (*entry != 0)
        {
            Volatile.Write(ref Unsafe.AsRef<ulong>(entry + 1), 0);
        }
    }

    /// <summary>Copies what is known to another table, ended entries too: a thread may be on its way from such a trap.</summary>
    public void CopyTo(GuardTable other)
    {
        for (int i = 0; i <= _mask; i++)
        {
            ulong* entry = At(i);
            if (*entry != 0)
            {
                _ = other.TryAdd(*entry, entry[1]);
            }
        }
    }

    private ulong* Find(ulong trap)
    {
        int index = (int)(unchecked(trap * HashMultiplier) >> 32) & _mask;
        while (*At(index) is var key && key != 0 && key != trap)
        {
            index = (index + 1) & _mask;
        }

        return At(index);
    }

    private ulong* At(int index) => (ulong*)(_start + EntriesOffset + ((long)index * EntryLength));
}
