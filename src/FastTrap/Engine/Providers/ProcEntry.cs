namespace FastTrap.Engine;

/// <summary>
/// What the table of procs counts of one process image: all who refer to it, and those who are active. Once nobody is active it is defunct: it is not
/// found any more, and whoever comes for the same pid gets a new one.
/// </summary>
/// <remarks>
/// Counts are guarded by the entry's own lock. The image itself counts as one that is active until its address space has gone, for slots outlive their probes.
/// Source: fasttrap.c, fasttrap_proc_t (ftpc_rcount, ftpc_acount).
/// </remarks>
internal sealed class ProcEntry(ProcIdentity identity)
{
    private readonly RankedLock _lock = new(LockRank.Proc);
    private int _total = 1;
    private int _active = 1;
    private bool _isClosed;

    public ProcIdentity Identity { get; } = identity;

    public int ProcessId => Identity.ProcessId;

    /// <summary>Whether nobody is active any more; it never becomes active again.</summary>
    public bool IsDefunct => Volatile.Read(ref _active) == 0;

    /// <summary>Whether its address space is gone: those who are there go, and nobody comes any more.</summary>
    public bool IsClosed => Volatile.Read(ref _isClosed);

    public (int Total, int Active) Counts
    {
        get
        {
            using (_lock.Enter())
            {
                return (_total, _active);
            }
        }
    }

    /// <summary>The next in its bucket; the table's.</summary>
    internal ProcEntry? Next { get; set; }

    /// <summary>One more who refers to it and is active; false if it is defunct, or about to be.</summary>
    public bool TryEnter()
    {
        using (_lock.Enter())
        {
            if (_active == 0 || _isClosed)
            {
                return false;
            }

            _total++;
            Volatile.Write(ref _active, _active + 1);
            return true;
        }
    }

    /// <summary>The address space is gone: nobody can come any more.</summary>
    public void CloseForNew()
    {
        using (_lock.Enter())
        {
            Volatile.Write(ref _isClosed, true);
        }
    }

    /// <summary>One who refers to it is not active any more.</summary>
    public void Deactivate()
    {
        using (_lock.Enter())
        {
            Volatile.Write(ref _active, _active - 1);
        }
    }

    /// <summary>One who was not active any more goes; true if it was the last.</summary>
    public bool Leave()
    {
        using (_lock.Enter())
        {
            return --_total == 0;
        }
    }
}
