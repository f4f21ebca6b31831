using System.Buffers.Binary;
using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Usdt;

namespace FastTrap.Tests.Usdt;

/// <summary>A thread as arguments are read from it: each register, and each byte of memory, has a value that tells which one it is.</summary>
internal sealed class RegisterValues : ITargetMemory, IVectorRegisters
{
    /// <summary>Addresses from here on are mapped.</summary>
    public const ulong Mapped = 0x1000;

    public RegisterValues(Architecture architecture)
    {
        Registers = new RegisterSet(architecture);
        int count = architecture == Architecture.X64 ? RegisterSet.X64WordCount : RegisterSet.Arm64WordCount;
        RegisterSet set = Registers;
        for (int word = 0; word < count; word++)
        {
            set.Words[word] = ValueOf(word);
        }

        Registers = set;
    }

    public RegisterSet Registers { get; set; }

    /// <summary>What a general register holds; every byte differs, and the sign of each part is set in every second register.</summary>
    public static ulong ValueOf(int word) => (0x8192a3b4c5d6e7f8UL + ((ulong)word * 0x0101010101010101UL)) ^ (word % 2 == 0 ? 0 : 0x8080808080808080UL);

    /// <summary>What eight bytes of memory hold.</summary>
    public static ulong MemoryAt(ulong address)
    {
        Span<byte> bytes = stackalloc byte[8];
        for (int i = 0; i < 8; i++)
        {
            bytes[i] = ByteAt(address + (ulong)i);
        }

        return BinaryPrimitives.ReadUInt64LittleEndian(bytes);
    }

    public static byte ByteAt(ulong address) => (byte)(((address * 0x9e3779b97f4a7c15UL) >> 56) | 1);

    /// <summary>A byte of a vector register.</summary>
    public static byte VectorByte(int register, int index) => (byte)((register * 37) + index + 1);

    public bool TryRead(ulong address, Span<byte> buffer)
    {
        if (address < Mapped)
        {
            return false;
        }

        for (int i = 0; i < buffer.Length; i++)
        {
            buffer[i] = ByteAt(address + (ulong)i);
        }

        return true;
    }

    public bool TryWrite(ulong address, ReadOnlySpan<byte> bytes) => throw new InvalidOperationException("Arguments are read only.");

    public bool TryRead(int register, Span<byte> bytes)
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] = VectorByte(register, i);
        }

        return true;
    }
}
