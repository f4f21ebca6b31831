using System.Buffers.Binary;
using FastTrap.Native;

namespace FastTrap.Programs.Shared;

/// <summary>A thread of the target.</summary>
/// <param name="ThreadId">Its id in its own pid namespace (the last of NSpid), which is what the C library knows.</param>
/// <param name="ThreadPointer">The base of fs, or TPIDR_EL0.</param>
internal readonly record struct ThreadSample(int ThreadId, ulong ThreadPointer);

/// <summary>
/// Finds where the C library keeps a thread's id, from its thread pointer: that is nowhere promised, but the same for all threads, so that what stands at the same distance from all of them, and is the id of each, is it.
/// </summary>
internal static class ThreadIdOffset
{
    /// <summary>How far from the pointer it is looked for: glibc has it 720 bytes above (x86-64), or below (arm64), musl less.</summary>
    public const int Reach = 4096;

    private const int Step = sizeof(int);

    /// <summary>Finds the offset of the id, 4 bytes, from the thread pointer.</summary>
    /// <remarks>Of one thread alone the place is believed only if there is no other; of several, the first from the pointer. Memory that cannot be read holds nothing.</remarks>
    /// <param name="platform">The kernel.</param>
    /// <param name="processId">The process.</param>
    /// <param name="threads">Threads of it, the more the better; they may run.</param>
    /// <param name="offset">The offset, which may be negative.</param>
    public static bool TryFind(IPlatform platform, int processId, ReadOnlySpan<ThreadSample> threads, out int offset)
    {
        byte[] memory = new byte[2 * Reach];
        bool[]? candidates = null;
        int different = 0;
        foreach (ThreadSample thread in threads)
        {
            if (thread.ThreadPointer < Reach || thread.ThreadPointer % Step != 0 || thread.ThreadId <= 0)
            {
                continue;
            }

            different++;
            ReadAround(platform, processId, thread.ThreadPointer, memory);
            Narrow(memory, thread.ThreadId, ref candidates);
        }

        return TryChoose(candidates ?? [], different, out offset);
    }

    /// <summary>Keeps the places at which an id stands.</summary>
    internal static void Narrow(ReadOnlySpan<byte> memory, int threadId, ref bool[]? candidates)
    {
        bool isFirst = candidates is null;
        candidates ??= new bool[memory.Length / Step];
        for (int i = 0; i < candidates.Length; i++)
        {
            candidates[i] = (isFirst || candidates[i]) && BinaryPrimitives.ReadInt32LittleEndian(memory[(i * Step)..]) == threadId;
        }
    }

    internal static bool TryChoose(ReadOnlySpan<bool> candidates, int threads, out int offset)
    {
        offset = 0;
        int found = 0;
        for (int i = 0; i < candidates.Length; i++)
        {
            int at = (i * Step) - Reach;
            if (candidates[i])
            {
                offset = found == 0 || Math.Abs(at) < Math.Abs(offset) ? at : offset;
                found++;
            }
        }

        return found == 1 || (found > 1 && threads > 1);
    }

    /// <summary>Reads what is on both sides of an address; what cannot be read becomes zeros.</summary>
    private static void ReadAround(IPlatform platform, int processId, ulong pointer, Span<byte> memory)
    {
        const int Piece = 1024;
        memory.Clear();
        for (int at = 0; at < memory.Length; at += Piece)
        {
            // A piece may lie in two pages of which one is missing.
            ulong address = pointer - Reach + (ulong)at;
            int read = platform.ReadMemory(processId, address, memory.Slice(at, Piece));
            if (read < Piece)
            {
                int before = (int)Math.Min(Piece, 0x1000 - (address & 0xfff));
                memory.Slice(at, Piece).Clear();
                _ = platform.ReadMemory(processId, address, memory.Slice(at, before));
                _ = before == Piece ? 0 : platform.ReadMemory(processId, address + (ulong)before, memory.Slice(at + before, Piece - before));
            }
        }
    }
}
