using FastTrap.Isa;

namespace FastTrap.Benchmarks;

/// <summary>Memory which reads as zero and takes everything.</summary>
internal sealed class PlainMemory : ITargetMemory
{
    public bool TryRead(ulong address, Span<byte> buffer)
    {
        buffer.Clear();
        return true;
    }

    public bool TryWrite(ulong address, ReadOnlySpan<byte> bytes) => true;
}
