using FastTrap.Native;

namespace FastTrap.Programs.Shared;

/// <summary>Reads the records of a region in the order of their times, whatever lane they are in. It takes the place of its <see cref="LaneReader"/>: one thread at a time.</summary>
/// <remarks>
/// What may still come. A program reads the time after it has reserved its record. So when the counter is read first and the lanes are looked at then, whatever is not in them will have a later time, but for what
/// a processor's store may take to be seen, for which a margin is left. A record that is reserved and not complete has a time that is not known, but none earlier than the last one of its lane: it holds the later ones back until it is complete,
/// at most for the patience: a thread may be stopped in the middle of one. What comes too late then is given out late, and counted. Within a lane the order is that of the reservations, so a record which a signal handler's record interrupted comes first.
/// </remarks>
internal sealed class MergedReader : IDisposable
{
    private const long MarginNs = 20_000;

    /// <summary>Bytes of a lane that are looked at ahead, and that are given out before they are freed.</summary>
    private const int PieceLength = 64 * 1024;

    private readonly LaneReader _reader;
    private readonly CounterClock _clock;
    private readonly long _patienceNs;
    private readonly PriorityQueue<int, ulong> _next;
    private readonly bool[] _isQueued;

    /// <summary>By lane: the time of the last record given out.</summary>
    private readonly ulong[] _lastTimes;

    /// <summary>By lane: how far it was complete when its next record was first seen incomplete, and when that was.</summary>
    private readonly (ulong Limit, long SinceNs)[] _pending;

    private ulong _now;
    private ulong _horizon;
    private ulong _lastGiven;
    private int _given = -1;
    private bool _hasSeenAll;

    /// <param name="reader">Disposed with this one.</param>
    /// <param name="clock">The clock.</param>
    /// <param name="patience">How long an incomplete record holds back later ones.</param>
    public MergedReader(LaneReader reader, CounterClock clock, TimeSpan patience)
    {
        _reader = reader;
        _clock = clock;
        _patienceNs = (long)patience.TotalNanoseconds;
        _next = new PriorityQueue<int, ulong>(reader.LaneCount);
        _isQueued = new bool[reader.LaneCount];
        _lastTimes = new ulong[reader.LaneCount];
        _pending = new (ulong, long)[reader.LaneCount];
    }

    /// <summary>Records that were given out behind one with a later time.</summary>
    public long Late { get; private set; }

    /// <summary>Gives the next record in the order of times, valid until the next call; false if there is none now of which it is known that it is the next.</summary>
    public bool TryRead(out LaneRecord record)
    {
        FreeGiven();
        bool isLast = _reader.IsLast;
        if (isLast == _hasSeenAll && TryTake(out record))
        {
            return true;
        }

        // Once nothing more is written, all lanes are looked at before any record is given out whatever its time.
        Look();
        _hasSeenAll = isLast;
        return TryTake(out record);
    }

    public void Dispose() => _reader.Dispose();

    private bool TryTake(out LaneRecord record)
    {
        if (!_next.TryPeek(out int lane, out ulong time) || (!_hasSeenAll && time > _horizon))
        {
            record = default;
            return false;
        }

        ref LaneCursor cursor = ref _reader.Cursor(lane);
        record = new LaneRecord(cursor.Take());
        _given = lane;
        _lastTimes[lane] = time;
        if (time < _lastGiven)
        {
            Late++;
        }
        else
        {
            _lastGiven = time;
        }

        if (cursor.HasNext || Extend(ref cursor, lane))
        {
            _next.DequeueEnqueue(lane, cursor.NextTime);
        }
        else
        {
            _next.Dequeue();
            _isQueued[lane] = false;
        }

        return true;
    }

    /// <summary>Reads the counter, then looks at all lanes: what is in none of them now will be later than that.</summary>
    private void Look()
    {
        _now = _clock.Now();
        _horizon = _now - (ulong)(MarginNs * _clock.TicksPerNanosecond);
        foreach (int lane in _reader.Look())
        {
            ref LaneCursor cursor = ref _reader.Cursor(lane);
            cursor.Free();
            if (Extend(ref cursor, lane) && !_isQueued[lane])
            {
                _isQueued[lane] = true;
                _next.Enqueue(lane, cursor.NextTime);
            }
        }
    }

    /// <summary>Looks what has become complete in a lane; where nothing has, but something is begun, later records of other lanes wait for it.</summary>
    private bool Extend(ref LaneCursor cursor, int lane)
    {
        if (cursor.Extend(PieceLength, _reader.IsLast))
        {
            return true;
        }

        if (cursor.IsPending)
        {
            ref (ulong Limit, long SinceNs) pending = ref _pending[lane];
            long now = _clock.ToNanoseconds(_now);
            if (pending.SinceNs == 0 || pending.Limit != cursor.Limit)
            {
                pending = (cursor.Limit, now);
            }

            if (now - pending.SinceNs <= _patienceNs)
            {
                _horizon = Math.Min(_horizon, _lastTimes[lane]);
            }
        }

        return false;
    }

    private void FreeGiven()
    {
        if (_given < 0)
        {
            return;
        }

        ref LaneCursor cursor = ref _reader.Cursor(_given);
        if (!cursor.HasNext || cursor.Next - cursor.Consumed >= PieceLength / 2)
        {
            cursor.Free();
        }

        _given = -1;
    }
}
