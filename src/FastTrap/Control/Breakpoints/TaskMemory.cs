using FastTrap.Isa;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>The target's data memory as the thread that was hit sees it. Control thread only; one instance, aimed before each use.</summary>
internal sealed class TaskMemory(IPlatform platform) : ITargetMemory
{
    private const ulong PageMask = 4095;

    /// <summary>The thread whose memory is meant: any thread's id serves, and the leader's may be gone already.</summary>
    public int ThreadId { get; set; }

    public bool TryRead(ulong address, Span<byte> buffer) => platform.ReadMemory(ThreadId, address, buffer) == buffer.Length;

    public bool TryWrite(ulong address, ReadOnlySpan<byte> bytes)
    {
        // A write over two pages could succeed on the first and fail on the second: the second is tried with what it holds already.
        int first = (int)Math.Min((ulong)bytes.Length, PageMask + 1 - (address & PageMask));
        if (first < bytes.Length)
        {
            Span<byte> rest = stackalloc byte[bytes.Length - first];
            ulong second = address + (ulong)first;
            if (!TryRead(second, rest) || platform.WriteMemory(ThreadId, second, rest) != rest.Length)
            {
                return false;
            }

            return platform.WriteMemory(ThreadId, address, bytes[..first]) == first
                && platform.WriteMemory(ThreadId, second, bytes[first..]) == rest.Length;
        }

        return platform.WriteMemory(ThreadId, address, bytes) == bytes.Length;
    }
}
