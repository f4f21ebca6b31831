using System.Buffers.Binary;

namespace FastTrap.Symbols;

/// <summary>A hash index over the names of a <see cref="SymbolTable"/>. Immutable.</summary>
internal sealed class SymbolNameIndex
{
    // Names are hostile too: without a seed somebody could choose names which all fall into one chain.
    private static readonly ulong s_seed = (ulong)Random.Shared.NextInt64() | 1;

    private readonly int[] _heads;
    private readonly int[] _next;

    public SymbolNameIndex(SymbolTable table)
    {
        int size = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(16, table.Count));
        _heads = new int[size];
        _next = new int[table.Count];
        for (int i = table.Count - 1; i >= 0; i--)
        {
            ref int head = ref _heads[Bucket(table.GetNameUtf8(i))];
            _next[i] = head;
            head = i + 1;
        }
    }

    /// <summary>The first candidate for a name, or -1. Candidates come in the table's order and need comparing.</summary>
    public int First(ReadOnlySpan<byte> name) => _heads[Bucket(name)] - 1;

    /// <summary>The candidate after another, or -1.</summary>
    public int Next(int index) => _next[index] - 1;

    private uint Bucket(ReadOnlySpan<byte> name)
    {
        ulong hash = s_seed ^ (ulong)name.Length;
        while (name.Length >= 8)
        {
            hash = (hash ^ BinaryPrimitives.ReadUInt64LittleEndian(name)) * 0x9e3779b97f4a7c15;
            hash ^= hash >> 29;
            name = name[8..];
        }

        foreach (byte value in name)
        {
            hash = (hash ^ value) * 0x100000001b3;
        }

        hash *= s_seed;
        return (uint)((hash ^ (hash >> 32)) & (uint)(_heads.Length - 1));
    }
}
