using System.Runtime.CompilerServices;

namespace FastTrap.Engine;

/// <summary>
/// Tracepoints by address: any thread looks up without a lock. What is added makes a new table; what goes is taken out in place.
/// </summary>
/// <remarks>
/// Open addressing, at most two thirds full. A tracepoint that went leaves a mark which look-ups pass over; <see cref="Version"/> tells a reader that some went meanwhile.
/// One writer, the control thread. Source: fasttrap.c, fasttrap_tpoints.</remarks>
internal sealed class TracepointTable
{
    private readonly Tracepoint?[] _slots;
    private readonly int _shift;

    /// <summary>Stands where one was taken out. Its address is no instruction's.</summary>
    private static readonly Tracepoint s_gone = new(default);

    private int _version;
    private int _count;

    private TracepointTable(int capacity)
    {
        _slots = new Tracepoint?[capacity];
        _shift = 64 - int.Log2(capacity);
    }

    public static TracepointTable Empty { get; } = new(4);

    public int Count => Volatile.Read(ref _count);

    /// <summary>How many were taken out.</summary>
    public int Version => Volatile.Read(ref _version);

    /// <summary>Whether most of it was taken out, so that a new table is due.</summary>
    public bool IsSparse => _version > _count;

    /// <summary>The lowest and highest address, to pass over most look-ups quickly.</summary>
    public ulong Lowest { get; private set; } = ulong.MaxValue;

    public ulong Highest { get; private set; }

    public static TracepointTable Create(IReadOnlyCollection<Tracepoint> tracepoints) => Empty.With(tracepoints);

    /// <summary>A table with those that are left in this one, and more.</summary>
    public TracepointTable With(IReadOnlyCollection<Tracepoint> more)
    {
        int count = _count + more.Count;
        TracepointTable table = new((int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(4, (count * 3 / 2) + 1)));
        foreach (Tracepoint? tracepoint in _slots)
        {
            if (tracepoint is not null && tracepoint != s_gone)
            {
                table.Insert(tracepoint);
            }
        }

        foreach (Tracepoint tracepoint in more)
        {
            table.Insert(tracepoint);
        }

        table._count = count;
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
                return found == s_gone ? null : found;
            }
        }
    }

    /// <summary>Takes one out that is in.</summary>
    public void Remove(Tracepoint tracepoint)
    {
        int mask = _slots.Length - 1;
        int i = Hash(tracepoint.Address);
        while (_slots[i] != tracepoint)
        {
            i = (i + 1) & mask;
        }

        Volatile.Write(ref _slots[i], s_gone);
        Volatile.Write(ref _count, _count - 1);
        Interlocked.Increment(ref _version);
    }

    public IEnumerable<Tracepoint> All()
    {
        foreach (Tracepoint? tracepoint in _slots)
        {
            if (tracepoint is not null && tracepoint != s_gone)
            {
                yield return tracepoint;
            }
        }
    }

    private int Hash(ulong address) => (int)((address * 0x9E3779B97F4A7C15UL) >> _shift);

    private void Insert(Tracepoint tracepoint)
    {
        ulong address = tracepoint.Address;
        Lowest = Math.Min(Lowest, address);
        Highest = Math.Max(Highest, address);
        int mask = _slots.Length - 1;
        int i = Hash(address);
        while (_slots[i] is not null)
        {
            i = (i + 1) & mask;
        }

        _slots[i] = tracepoint;
    }
}
