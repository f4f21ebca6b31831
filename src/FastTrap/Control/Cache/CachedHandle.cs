namespace FastTrap.Control.Cache;

/// <summary>A read-only handle. Its process is told from others by pid and start time; <see cref="IsStale"/> may be read by any thread.</summary>
/// <remarks>Source: dt_proc.c, dt_proc_t: dpr_refs, dpr_stale.</remarks>
internal sealed class CachedHandle<T>
    where T : class
{
    private volatile bool _isStale;

    public CachedHandle(int processId, ulong startTime, T value)
    {
        ProcessId = processId;
        StartTime = startTime;
        Value = value;
        Node = new LinkedListNode<CachedHandle<T>>(this);
    }

    public int ProcessId { get; }

    public ulong StartTime { get; }

    public T Value { get; }

    /// <summary>Its place in the order of use; the cache's.</summary>
    public LinkedListNode<CachedHandle<T>> Node { get; }

    /// <summary>Its users; the cache's.</summary>
    public int References { get; set; }

    /// <summary>Whether what it says may be wrong: never again right.</summary>
    public bool IsStale
    {
        get => _isStale;
        set => _isStale = value;
    }
}
