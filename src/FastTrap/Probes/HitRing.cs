using System.Diagnostics.CodeAnalysis;
using System.Numerics;
using System.Runtime.CompilerServices;

namespace FastTrap.Probes;

/// <summary>
/// A bounded ring of hits between control threads, which write, and one reader. A full ring drops, and counts.
/// </summary>
/// <remarks>
/// Scheme. A writer reserves an entry by moving <c>_head</c> over it, fills it, and gives it to the reader by its <see cref="HitRecord.Turn"/>: twice the
/// lap while the entry is free, one more while it is filled. The reader owns <c>_tail</c> and frees what it has read by the turn of the next lap. The reader
/// announces in <c>_isWaiting</c> that it is about to wait and looks once more; a writer signals only then. No lock; nothing is allocated by
/// a writer once the ring is made.
/// </remarks>
[SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim whose wait handle is never asked for holds nothing to dispose.")]
internal sealed class HitRing
{
    private readonly HitRecord[] _records;
    private readonly ulong[]? _stacks;
    private readonly int _stackDepth;
    private readonly int _lapShift;
    private readonly HitTexts? _layout;
    private readonly byte[]? _texts;
    private readonly SemaphoreSlim _available = new(0);
    private long _head;
    private long _tail;
    private long _lost;
    private int _isWaiting;
    private int _isReading;
    private volatile bool _isComplete;

    /// <summary>Makes a ring.</summary>
    /// <param name="capacity">Hits, rounded up to a power of two.</param>
    /// <param name="stackDepth">Frames of each hit.</param>
    /// <param name="texts">The texts of each hit; null for none.</param>
    public HitRing(int capacity, int stackDepth, HitTexts? texts = null)
    {
        int size = (int)BitOperations.RoundUpToPowerOf2((uint)capacity);
        _records = new HitRecord[size];
        _lapShift = BitOperations.Log2((uint)size);
        _stackDepth = stackDepth;
        _stacks = stackDepth == 0 ? null : new ulong[(long)size * stackDepth];
        _layout = texts;
        _texts = texts is null ? null : new byte[(long)size * texts.Length];
    }

    /// <summary>The texts of each hit; null for none.</summary>
    public HitTexts? Texts => _layout;

    public long Lost => Volatile.Read(ref _lost);

    /// <summary>Whether no more hits will come.</summary>
    public bool IsComplete => _isComplete;

    private bool HasNext => Volatile.Read(ref _records[_tail & (_records.Length - 1)].Turn) == FreeAt(_tail) + 1;

    /// <summary>The entry to fill, or a null reference when the ring is full and the hit is lost. What was begun must be ended. Any writer.</summary>
    public ref HitRecord TryBegin(out long position, out Span<ulong> stack, out Span<byte> texts)
    {
        texts = default;
        position = Volatile.Read(ref _head);
        while (true)
        {
            int index = (int)(position & (_records.Length - 1));
            ref HitRecord record = ref _records[index];
            long ahead = Volatile.Read(ref record.Turn) - FreeAt(position);
            if (ahead == 0)
            {
                long seen = Interlocked.CompareExchange(ref _head, position + 1, position);
                if (seen == position)
                {
                    stack = _stacks is null ? default : _stacks.AsSpan(index * _stackDepth, _stackDepth);
                    texts = _texts is null ? default : _texts.AsSpan(index * _layout!.Length, _layout.Length);
                    return ref record;
                }

                position = seen;
            }
            else if (ahead < 0)
            {
                Interlocked.Increment(ref _lost);
                stack = default;
                return ref Unsafe.NullRef<HitRecord>();
            }
            else
            {
                position = Volatile.Read(ref _head);
            }
        }
    }

    /// <summary>Publishes the entry. The writer who began it.</summary>
    public void End(long position)
    {
        Volatile.Write(ref _records[position & (_records.Length - 1)].Turn, FreeAt(position) + 1);
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
        if (!HasNext)
        {
            hit = default;
            return false;
        }

        int index = (int)(_tail & (_records.Length - 1));
        ref HitRecord record = ref _records[index];
        ulong[]? stack = record.StackCount == 0 ? null : _stacks.AsSpan(index * _stackDepth, record.StackCount).ToArray();
        byte[]? texts = _texts?.AsSpan(index * _layout!.Length, _layout.Length).ToArray();
        hit = new ProbeHit(record.Source.Probe, record, stack, _layout, texts);
        Volatile.Write(ref record.Turn, FreeAt(_tail + _records.Length));
        _tail++;
        return true;
    }

    /// <summary>Waits until there is something to take; false when nothing will come any more. Reader.</summary>
    public async ValueTask<bool> WaitAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            if (HasNext)
            {
                return true;
            }

            if (_isComplete)
            {
                return HasNext;
            }

            Volatile.Write(ref _isWaiting, 1);
            Interlocked.MemoryBarrier();
            if (HasNext || _isComplete)
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

    /// <summary>Takes hits until the ring is complete and empty. One reader at a time.</summary>
    /// <exception cref="InvalidOperationException">Another reader is active.</exception>
    public static async IAsyncEnumerable<ProbeHit> ReadAllAsync(HitRing ring, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        if (Interlocked.Exchange(ref ring._isReading, 1) != 0)
        {
            throw new InvalidOperationException("Somebody reads this enabling's hits already; it has one reader at a time.");
        }

        try
        {
            while (await ring.WaitAsync(cancellationToken).ConfigureAwait(false))
            {
                while (ring.TryTake(out ProbeHit hit))
                {
                    yield return hit;
                    cancellationToken.ThrowIfCancellationRequested();
                }
            }
        }
        finally
        {
            Volatile.Write(ref ring._isReading, 0);
        }
    }

    private long FreeAt(long position) => position >> _lapShift << 1;
}
