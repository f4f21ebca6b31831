using System.Diagnostics;

namespace FastTrap.Engine;

/// <summary>What was added within some time before the last that was added, in that order. It grows by pieces: adding one to very many takes no longer than adding the first, for threads may wait meanwhile. Not thread-safe.</summary>
/// <param name="memory">The time.</param>
internal sealed class Recent<T>(TimeSpan memory)
{
    public const int PieceLength = 1024;

    private readonly Queue<Piece> _pieces = new();
    private Piece _last = new();

    public bool IsEmpty => _pieces.Count == 0;

    public void Add(T item)
    {
        long now = Stopwatch.GetTimestamp();
        Forget(now);
        if (_pieces.Count == 0 || _last.Items.Count == PieceLength)
        {
            _last = new Piece();
            _pieces.Enqueue(_last);
        }

        _last.Items.Add((item, now));
    }

    public IEnumerable<T> All()
    {
        foreach (Piece piece in _pieces)
        {
            for (int i = piece.First; i < piece.Items.Count; i++)
            {
                yield return piece.Items[i].Item;
            }
        }
    }

    private void Forget(long now)
    {
        while (_pieces.TryPeek(out Piece? oldest))
        {
            while (oldest.First < oldest.Items.Count && Stopwatch.GetElapsedTime(oldest.Items[oldest.First].When, now) > memory)
            {
                oldest.First++;
            }

            if (oldest.First < oldest.Items.Count)
            {
                return;
            }

            _pieces.Dequeue();
        }
    }

    private sealed class Piece
    {
        public List<(T Item, long When)> Items { get; } = [];

        /// <summary>The first that is not forgotten.</summary>
        public int First { get; set; }
    }
}
