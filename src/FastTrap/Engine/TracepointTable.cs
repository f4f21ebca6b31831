using System.Runtime.CompilerServices;

namespace FastTrap.Engine;

/// <summary>
/// Tracepoints by address: immutable once published, so that any thread looks up without a lock. A change makes a new table.
/// </summary>
/// <remarks>Open addressing, at most half full. Source: fasttrap.c, fasttrap_tpoints.</remarks>
internal sealed class TracepointTable
{
    private readonly Tracepoint?[] _slots;
    private readonly int _shift;

    private TracepointTable(int capacity)
    {
        _slots = new Tracepoint?[capacity];
        _shift = 64 - int.Log2(capacity);
    }

    public static TracepointTable Empty { get; } = new(4);

    public int Count { get; private init; }

    /// <summary>The lowest and highest address, to pass over most look-ups quickly.</summary>
    public ulong Lowest { get; private init; } = ulong.MaxValue;

    public ulong Highest { get; private init; }

    public static TracepointTable Create(IReadOnlyCollection<Tracepoint> tracepoints)
    {
        int capacity = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(4, tracepoints.Count * 2));
        ulong lowest = ulong.MaxValue;
        ulong highest = 0;
        foreach (Tracepoint tracepoint in tracepoints)
        {
            lowest = Math.Min(lowest, tracepoint.Address);
            highest = Math.Max(highest, tracepoint.Address);
        }

        TracepointTable table = new(capacity) { Count = tracepoints.Count, Lowest = lowest, Highest = highest };
        foreach (Tracepoint tracepoint in tracepoints)
        {
            table.Insert(tracepoint);
        }

        return table;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Tracepoint? Find(ulong address)
    {
        Tracepoint?[] slots = _slots;
        int mask = slots.Length - 1;
        for (int i = Hash(address); ; i = (i + 1) & mask)
        {
            Tracepoint? found = slots[i];
            if (found is null || found.Address == address)
            {
                return found;
            }
        }
    }

    public IEnumerable<Tracepoint> All()
    {
        foreach (Tracepoint? tracepoint in _slots)
        {
            if (tracepoint is not null)
            {
                yield return tracepoint;
            }
        }
    }

    private int Hash(ulong address) => (int)((address * 0x9E3779B97F4A7C15UL) >> _shift);

    private void Insert(Tracepoint tracepoint)
    {
        int mask = _slots.Length - 1;
        int i = Hash(tracepoint.Address);
        while (_slots[i] is not null)
        {
            i = (i + 1) & mask;
        }

        _slots[i] = tracepoint;
    }
}
