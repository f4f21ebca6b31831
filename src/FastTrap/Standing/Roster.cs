namespace FastTrap;

/// <summary>The processes of a tracer, what stands for all of them, and who wants to hear of them.</summary>
/// <remarks>
/// Thread-safe. Scheme. Lists are replaced as a whole under the gate and read without it. Nothing is called under the gate. Once closed, nothing that a user asks for is
/// added; children that are born meanwhile are, so that they can be let go.
/// </remarks>
internal sealed class Roster
{
    private readonly object _gate = new();
    private volatile TracedProcess[] _processes = [];
    private volatile StandingEnabling[] _standing = [];
    private volatile ProcessEvents[] _subscriptions = [];
    private bool _isClosed;

    public IReadOnlyList<TracedProcess> Processes => _processes;

    public IReadOnlyList<StandingEnabling> Standing => _standing;

    public TracedProcess? Find(int processId) => Array.Find(_processes, p => p.ProcessId == processId);

    /// <summary>Whether the caller is a handler on a control thread.</summary>
    public bool IsInHandler => Array.Exists(_processes, p => p.IsOnControlThread);

    public bool IsClosed
    {
        get
        {
            lock (_gate)
            {
                return _isClosed;
            }
        }
    }

    /// <summary>Adds one that was attached to, or created; false when the tracer has been disposed.</summary>
    public bool TryAdd(TracedProcess process)
    {
        lock (_gate)
        {
            if (!_isClosed)
            {
                _processes = [.. _processes, process];
            }

            return !_isClosed;
        }
    }

    /// <summary>Adds a child that was born.</summary>
    public void AddChild(TracedProcess process)
    {
        lock (_gate)
        {
            _processes = [.. _processes, process];
        }
    }

    public void Remove(TracedProcess process)
    {
        lock (_gate)
        {
            _processes = [.. _processes.Where(p => p != process)];
        }
    }

    /// <exception cref="ObjectDisposedException">The tracer was disposed.</exception>
    public void Add(StandingEnabling standing)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isClosed, typeof(Tracer));
            _standing = [.. _standing, standing];
        }
    }

    public void Remove(StandingEnabling standing)
    {
        lock (_gate)
        {
            _standing = [.. _standing.Where(s => s != standing)];
        }
    }

    /// <exception cref="ObjectDisposedException">The tracer was disposed.</exception>
    public ProcessEvents Subscribe()
    {
        ProcessEvents events = new(this);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isClosed, typeof(Tracer));
            _subscriptions = [.. _subscriptions, events];
        }

        return events;
    }

    public void Remove(ProcessEvents events)
    {
        lock (_gate)
        {
            _subscriptions = [.. _subscriptions.Where(e => e != events)];
        }
    }

    /// <summary>Tells everyone. Events of one process are published by its control thread, in their order.</summary>
    public void Publish(ProcessEvent processEvent)
    {
        foreach (ProcessEvents events in _subscriptions)
        {
            events.Publish(processEvent);
        }
    }

    public void Close()
    {
        lock (_gate)
        {
            _isClosed = true;
        }
    }

    /// <summary>After the last event.</summary>
    public void CompleteSubscriptions()
    {
        foreach (ProcessEvents events in _subscriptions)
        {
            events.Complete();
        }
    }
}
