using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>
/// Watches the run-time linker of one program image: a control breakpoint stands on the function which the linker calls for debuggers, before and after
/// it changes its list of libraries; after each change the lists are compared.
/// </summary>
/// <remarks>
/// Scheme. Control thread only. The trap is written before the list is read for the first time, so that no change falls between: a list that was not
/// complete then counts as unknown, and all of it is announced with the next complete one. What is announced as added has run no constructor yet; what is
/// announced as removed is unmapped already, and its tracepoints are dropped before anybody is told.
/// Source: dt_proc.c, dt_proc_rdevent, dt_proc_rdwatch, dt_proc_attach.
/// </remarks>
internal sealed class LinkerWatch
{
    private readonly Action<TracedTask>? _onConsistent;
    private readonly LinkMapReader _reader;
    private readonly List<LinkNamespace> _namespaces = [];
    private readonly Dictionary<ulong, List<LinkedObject>> _objects = [];
    private readonly List<LinkerEvent> _events = [];
    private readonly LinkerLocation _location;
    private ControlBreakpoint? _breakpoint;

    /// <summary>Makes a watch that does nothing until <see cref="Start"/>.</summary>
    /// <param name="process">The process, whose memory is of the program to be watched.</param>
    /// <param name="onConsistent">Whom to tell instead of the process's observer: each time the lists are complete, changed or not.</param>
    /// <param name="location">Where to look, if it was looked for already.</param>
    public LinkerWatch(ProcessHandle process, Action<TracedTask>? onConsistent = null, LinkerLocation? location = null)
    {
        Process = process;
        _onConsistent = onConsistent;
        _reader = new LinkMapReader(process.Platform);
        _location = location ?? LinkerLocation.Find(process.Platform, process.ProcessId);
    }

    public ProcessHandle Process { get; }

    /// <summary>Whether the breakpoint stands.</summary>
    public bool IsWatching => _breakpoint is not null && Process.ControlBreakpoints.Find(_breakpoint.Address) == _breakpoint;

    /// <summary>
    /// Why nothing is watched though there is a linker; null if all is well, also for a static program, which has none and whose modules never change.
    /// </summary>
    public string? Problem { get; private set; }

    /// <summary>Where the breakpoint stands; 0 if it does not.</summary>
    public ulong BreakpointAddress => IsWatching ? _breakpoint!.Address : 0;

    /// <summary>How often threads have run into it.</summary>
    public long Hits => _breakpoint?.Hits ?? 0;

    /// <summary>Whether the linker was seen to add something.</summary>
    public bool HasSeenAdding { get; private set; }

    /// <summary>The changes that are being announced. Valid during <see cref="IProcessObserver.OnLinkerActivity"/>.</summary>
    public IReadOnlyList<LinkerEvent> Events => _events;

    /// <summary>What was loaded when the lists were last complete, namespace by namespace.</summary>
    public IEnumerable<LinkedObject> Objects => _objects.Values.SelectMany(o => o);

    /// <summary>Sets the breakpoint and takes what is loaded now as known. <see cref="Problem"/> says if that cannot be.</summary>
    public void Start()
    {
        Problem = null;
        ulong debug = _location.FindDebug(Process.ProcessId);
        ulong address = _location.StateFunction;
        bool isStarted = debug != 0 && _reader.TryRead(Process.ProcessId, debug, _namespaces) && _namespaces[0].Breakpoint != 0;
        if (isStarted)
        {
            address = _namespaces[0].Breakpoint;
        }

        if (address == 0)
        {
            Problem = _location.Auxv.Base != 0
                ? "its linker has no _dl_debug_state and has left no r_debug; what it loads is found when probes are enabled"
                : null;
            return;
        }

        SetBreakpoint(address);
        if (_breakpoint is not null && isStarted && _reader.TryRead(Process.ProcessId, debug, _namespaces))
        {
            foreach (LinkNamespace space in _namespaces.Where(n => n.State == LinkerState.Consistent))
            {
                _objects[space.DebugAddress] = space.Objects;
            }
        }
    }

    /// <summary>Takes the breakpoint out of the text.</summary>
    public void Stop()
    {
        if (_breakpoint is not null)
        {
            Process.ControlBreakpoints.Remove(_breakpoint);
            _breakpoint = null;
        }
    }

    private void SetBreakpoint(ulong address)
    {
        if (!IsCode(address))
        {
            Problem = $"what its r_debug names as breakpoint ({address:x}) is no code";
            return;
        }

        Errno error = Process.ControlBreakpoints.Set(address, isStanding: true, OnHit);
        if (error == Errno.None)
        {
            _breakpoint = Process.ControlBreakpoints.Find(address);
            return;
        }

        Problem = error switch
        {
            Errno.EBUSY => $"somebody else's breakpoint stands on its linker's state function ({address:x})",
            Errno.EINVAL => $"the instruction at its linker's state function ({address:x}) cannot be emulated",
            _ => $"no breakpoint could be set at {address:x} ({error})",
        };
    }

    /// <summary>The target's memory says where the trap is to be written: code only, and no code that is data as well.</summary>
    private bool IsCode(ulong address) =>
        ProcMaps.TryRead(Process.Platform, Process.ProcessId, out List<MemoryRegion> regions, out _)
        && regions.Exists(r => r.Contains(address) && r.IsExecutable && (r.Access & (MemoryAccess.Write | MemoryAccess.Shared)) == 0);

    private void OnHit(TracedTask task)
    {
        if (!_reader.TryRead(task.ThreadId, _location.FindDebug(task.ThreadId), _namespaces))
        {
            return;
        }

        HasSeenAdding |= _namespaces[0].State == LinkerState.Adding;
        MoveBreakpoint(_namespaces[0].Breakpoint);
        Compare();
        foreach (LinkerEvent change in _events)
        {
            if (change.Kind == LinkerEventKind.Removed && change.Object.Length != 0)
            {
                Process.Handler?.OnUnmapped(change.Object.Start, change.Object.Length);
            }
        }

        if (_onConsistent is not null)
        {
            if (_namespaces[0].State == LinkerState.Consistent)
            {
                _onConsistent(task);
            }
        }
        else if (_events.Count != 0)
        {
            Process.Observer?.OnLinkerActivity(Process, task);
        }
    }

    /// <summary>The linker's own word counts more than its symbols.</summary>
    private void MoveBreakpoint(ulong address)
    {
        if (address != 0 && _breakpoint is { } present && present.Address != address && IsCode(address))
        {
            Process.ControlBreakpoints.Remove(present);
            _breakpoint = null;
            SetBreakpoint(address);
        }
    }

    private void Compare()
    {
        _events.Clear();
        foreach (LinkNamespace space in _namespaces)
        {
            if (space.State == LinkerState.Consistent)
            {
                _objects.TryGetValue(space.DebugAddress, out List<LinkedObject>? before);
                Compare(before ?? [], space.Objects);
                _objects[space.DebugAddress] = space.Objects;
            }
        }
    }

    private void Compare(List<LinkedObject> before, List<LinkedObject> after)
    {
        // Nearly always nothing, or something at the end.
        int same = 0;
        while (same < before.Count && same < after.Count && before[same] == after[same])
        {
            same++;
        }

        HashSet<LinkedObject> left = [.. before.Skip(same)];
        List<LinkedObject> added = [.. after.Skip(same).Where(o => !left.Remove(o))];
        _events.AddRange(before.Skip(same).Where(left.Contains).Select(o => new LinkerEvent(LinkerEventKind.Removed, o)));
        _events.AddRange(added.Select(o => new LinkerEvent(LinkerEventKind.Added, o)));
    }
}
