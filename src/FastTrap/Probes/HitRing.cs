using System.Diagnostics.CodeAnalysis;
using System.Numerics;

namespace FastTrap.Probes;

/// <summary>
/// A bounded ring of hits between the control thread, the only writer, and one reader. A full ring drops, and counts.
/// </summary>
/// <remarks>
/// Scheme. The writer owns <c>_head</c>, the reader <c>_tail</c>; each publishes its own after it has finished with the entry. The reader
/// announces in <c>_isWaiting</c> that it is about to wait and looks once more; the writer signals only then. No lock; nothing is allocated by
/// the writer once the ring is made.
/// </remarks>
[SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim whose wait handle is never asked for holds nothing to dispose.")]
internal sealed class HitRing
{
    private readonly HitRecord[] _records;
    private readonly ulong[]? _stacks;
    private readonly int _stackDepth;
    private readonly SemaphoreSlim _available = new(0);
    private long _head;
    private long _tail;
    private long _lost;
    private int _isWaiting;
    private volatile bool _isComplete;

    public HitRing(int capacity, int stackDepth)
    {
        int size = (int)BitOperations.RoundUpToPowerOf2((uint)capacity);
        _records = new HitRecord[size];
        _stackDepth = stackDepth;
        _stacks = stackDepth == 0 ? null : new ulong[(long)size * stackDepth];
    }

    public long Lost => Volatile.Read(ref _lost);

    /// <summary>The entry to fill, or a null reference when the ring is full and the hit is lost. Writer.</summary>
    public ref HitRecord TryBegin(out Span<ulong> stack)
    {
        if (_head - Volatile.Read(ref _tail) >= _records.Length)
        {
            Volatile.Write(ref _lost, _lost + 1);
            stack = default;
            return ref System.Runtime.CompilerServices.Unsafe.NullRef<HitRecord>();
        }

        int index = (int)(_head & (_records.Length - 1));
        stack = _stacks is null ? default : _stacks.AsSpan(index * _stackDepth, _stackDepth);
        return ref _records[index];
    }

    /// <summary>Publishes the entry. Writer.</summary>
    public void End()
    {
        Volatile.Write(ref _head, _head + 1);
        Interlocked.MemoryBarrier();
        if (_isWaiting != 0 && Interlocked.Exchange(ref _isWaiting, 0) != 0)
        {
            _available.Release();
        }
    }

    /// <summary>No more hits will come. Any thread, once the writer is known to be done.</summary>
    public void Complete()
    {
        _isComplete = true;
        Interlocked.MemoryBarrier();
        if (Interlocked.Exchange(ref _isWaiting, 0) != 0)
        {
            _available.Release();
        }
    }

    /// <summary>Takes the oldest hit. Reader.</summary>
    public bool TryTake(out ProbeHit hit)
    {
        if (_tail >= Volatile.Read(ref _head))
        {
            hit = default;
            return false;
        }

        int index = (int)(_tail & (_records.Length - 1));
        ref HitRecord record = ref _records[index];
        ulong[]? stack = record.StackCount == 0 ? null : _stacks.AsSpan(index * _stackDepth, record.StackCount).ToArray();
        hit = new ProbeHit(record.Source.Probe, record, stack);
        Volatile.Write(ref _tail, _tail + 1);
        return true;
    }

    /// <summary>Waits until there is something to take; false when nothing will come any more. Reader.</summary>
    public async ValueTask<bool> WaitAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            if (_tail < Volatile.Read(ref _head))
            {
                return true;
            }

            if (_isComplete)
            {
                return _tail < Volatile.Read(ref _head);
            }

            Volatile.Write(ref _isWaiting, 1);
            Interlocked.MemoryBarrier();
            if (_tail < Volatile.Read(ref _head) || _isComplete)
            {
                if (Interlocked.Exchange(ref _isWaiting, 0) == 0)
                {
                    // The writer has signalled meanwhile: take the signal, lest the next wait ends at once.
                    await _available.WaitAsync(CancellationToken.None).ConfigureAwait(false);
                }

                continue;
            }

            await _available.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }
}
