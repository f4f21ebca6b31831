namespace FastTrap.Programs.Shared;

/// <summary>Reads the records of a region, each once, those of a lane in their order. A region has one reader at a time, and a reader one thread at a time; it allocates nothing once it is made.</summary>
/// <remarks>
/// Nobody signals that there are records: ask again (<see cref="ReaderPause"/> says when). Disposal lets go of the memory; what was not read stays for a next reader.
/// </remarks>
internal sealed class LaneReader : IDisposable
{
    /// <summary>Bytes of a batch: what stays in a cache between the two times that it is gone through.</summary>
    private const int BatchLength = 16 * 1024;

    /// <summary>Batches between two looks for lanes that came into use.</summary>
    private const int TurnsPerLook = 64;

    private readonly SharedRegion _region;
    private readonly LaneCursor[] _cursors;
    private readonly int[] _used;
    private readonly bool[] _isUsed;
    private int _usedCount;
    private int _turn;
    private int _sinceLook = TurnsPerLook;
    private int _given = -1;
    private bool _isLast;
    private bool _isDisposed;

    public LaneReader(SharedRegion region)
    {
        ArgumentOutOfRangeException.ThrowIfZero(region.Layout.RingLength, nameof(region));
        _region = region;
        _region.Memory.Hold();
        _cursors = new LaneCursor[region.Layout.LaneCount + 1];
        _used = new int[_cursors.Length];
        _isUsed = new bool[_cursors.Length];
        for (int lane = 0; lane < _cursors.Length; lane++)
        {
            _cursors[lane] = new LaneCursor(region, lane);
        }
    }

    /// <summary>Lanes, the common one included.</summary>
    public int LaneCount => _cursors.Length;

    /// <summary>Whether <see cref="ReadToEnd"/> was called.</summary>
    public bool IsLast => _isLast;

    /// <summary>Records that found no room in a ring.</summary>
    public ulong Drops => _region.CountDrops();

    /// <summary>Records which were begun and never completed; they are known once <see cref="ReadToEnd"/> was called.</summary>
    public int Abandoned
    {
        get
        {
            int count = 0;
            foreach (ref readonly LaneCursor cursor in _cursors.AsSpan())
            {
                count += cursor.Abandoned;
            }

            return count;
        }
    }

    /// <summary>Lanes in which the target has written over the ring, and which are read no more.</summary>
    public int BrokenLanes
    {
        get
        {
            int count = 0;
            foreach (ref readonly LaneCursor cursor in _cursors.AsSpan())
            {
                count += cursor.IsBroken ? 1 : 0;
            }

            return count;
        }
    }

    /// <summary>Says that no program runs any more, now or later: records that are not complete are passed over, so that what stands behind them is read.</summary>
    public void ReadToEnd() => _isLast = true;

    /// <summary>Frees the batch given before, and gives the next complete records of a lane, the lanes in turn; false if there are none now.</summary>
    public bool TryRead(out RecordBatch batch)
    {
        FreeGiven();
        if (!TryFindLane(out int lane))
        {
            batch = default;
            return false;
        }

        _given = lane;
        batch = new RecordBatch(lane, _cursors[lane].TakeAll());
        return true;
    }

    /// <summary>As <see cref="TryRead"/>, one record at a time; it is valid until the next call.</summary>
    public bool TryReadOne(out LaneRecord record)
    {
        if (_given < 0 || !_cursors[_given].HasNext)
        {
            FreeGiven();
            if (!TryFindLane(out int lane))
            {
                record = default;
                return false;
            }

            _given = lane;
        }

        record = new LaneRecord(_cursors[_given].Take());
        return true;
    }

    public void Dispose()
    {
        if (!_isDisposed)
        {
            FreeGiven();
            _isDisposed = true;
            _region.Memory.Release();
        }
    }

    /// <summary>Finds the lanes that came into use, for a reader that goes through them in its own order.</summary>
    internal ReadOnlySpan<int> Look()
    {
        _sinceLook = 0;
        for (int lane = 0; lane < _cursors.Length; lane++)
        {
            if (!_isUsed[lane] && _cursors[lane].IsUsed)
            {
                _isUsed[lane] = true;
                _used[_usedCount++] = lane;
            }
        }

        return _used.AsSpan(0, _usedCount);
    }

    internal ref LaneCursor Cursor(int lane) => ref _cursors[lane];

    private bool TryFindLane(out int lane)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (++_sinceLook > TurnsPerLook)
        {
            Look();
        }

        if (TryTurn(out lane))
        {
            return true;
        }

        int before = _usedCount;
        Look();
        return _usedCount != before && TryTurn(out lane);
    }

    private bool TryTurn(out int lane)
    {
        for (int i = 0; i < _usedCount; i++)
        {
            _turn = _turn + 1 < _usedCount ? _turn + 1 : 0;
            lane = _used[_turn];
            ref LaneCursor cursor = ref _cursors[lane];
            if (cursor.Extend(BatchLength, _isLast))
            {
                return true;
            }

            // A filler without a record behind it.
            cursor.Free();
        }

        lane = -1;
        return false;
    }

    private void FreeGiven()
    {
        if (_given >= 0)
        {
            _cursors[_given].Free();
            _given = -1;
        }
    }
}
