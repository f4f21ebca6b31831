namespace FastTrap.Control.Cache;

/// <summary>
/// Read-only handles by process, shared by all who ask for the same one, and kept for a while when nobody uses them.
/// </summary>
/// <typeparam name="T">What a handle holds: what was learned of the process, which is dear to learn again.</typeparam>
/// <remarks>
/// Scheme. One lock over the table and the list, a leaf: nothing is called under it. A handle that is in use is never dropped; of the idle ones the least
/// recently used goes when there are more handles than the limit. One that was made stale is no longer found, and goes with its last user.
/// Source: dt_proc.c, dt_proc_hash_create, dt_proc_lookup, dt_proc_grab, dt_proc_release, dt_proc_hash_destroy.
/// </remarks>
internal sealed class HandleCache<T>(int limit)
    where T : class
{
    private readonly object _gate = new();
    private readonly Dictionary<int, CachedHandle<T>> _handles = [];

    /// <summary>All that are found, the most recently used first.</summary>
    private readonly LinkedList<CachedHandle<T>> _order = [];

    /// <summary>Handles that are found, in use or idle.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _order.Count;
            }
        }
    }

    /// <summary>The handle of a process, with one user more; null if there is none. One of a former process with that id becomes stale.</summary>
    public CachedHandle<T>? Find(int processId, ulong startTime)
    {
        lock (_gate)
        {
            return FindLocked(processId, startTime);
        }
    }

    /// <summary>Adds a handle unless somebody was faster, and gives the one that is there, with one user more.</summary>
    public CachedHandle<T> Add(int processId, ulong startTime, T value)
    {
        lock (_gate)
        {
            if (FindLocked(processId, startTime) is { } found)
            {
                return found;
            }

            if (_order.Count >= limit)
            {
                DropIdle();
            }

            CachedHandle<T> handle = new(processId, startTime, value) { References = 1 };
            _handles.Add(processId, handle);
            _order.AddFirst(handle.Node);
            return handle;
        }
    }

    /// <summary>A user has done with a handle.</summary>
    public void Release(CachedHandle<T> handle)
    {
        lock (_gate)
        {
            if (--handle.References == 0 && !handle.IsStale && _order.Count > limit)
            {
                Drop(handle);
            }
        }
    }

    /// <summary>What the handle of a process says may be wrong from now on: the process is controlled, has ended, or is another.</summary>
    public void MakeStale(int processId)
    {
        lock (_gate)
        {
            if (_handles.TryGetValue(processId, out CachedHandle<T>? handle))
            {
                Drop(handle);
            }
        }
    }

    /// <summary>Makes all handles stale.</summary>
    public void Clear()
    {
        lock (_gate)
        {
            while (_order.First is { } first)
            {
                Drop(first.Value);
            }
        }
    }

    private CachedHandle<T>? FindLocked(int processId, ulong startTime)
    {
        if (!_handles.TryGetValue(processId, out CachedHandle<T>? handle))
        {
            return null;
        }

        if (handle.StartTime != startTime)
        {
            Drop(handle);
            return null;
        }

        _order.Remove(handle.Node);
        _order.AddFirst(handle.Node);
        handle.References++;
        return handle;
    }

    private void DropIdle()
    {
        for (LinkedListNode<CachedHandle<T>>? node = _order.Last; node is not null; node = node.Previous)
        {
            if (node.Value.References == 0)
            {
                Drop(node.Value);
                return;
            }
        }
    }

    private void Drop(CachedHandle<T> handle)
    {
        handle.IsStale = true;
        _handles.Remove(handle.ProcessId);
        _order.Remove(handle.Node);
    }
}
