using System.Diagnostics;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>How threads and processes come.</summary>
/// <remarks>
/// Scheme. The kernel attaches a new thread or process to us before it runs, and reports two things in any order: the parent's event, with the id, and the first
/// stop of the new one. What comes is told by what it is (a thread of the parent, a sharer of its memory, a process of its own), not by the event. While there has
/// been one process only, that is the parent, and the first stop is answered at once. Where there are several, a stop that comes before its event waits for it
/// in <c>_unclaimed</c>; should the parent have been killed before its event, the child is claimed with the parent's end, or after a while.
/// </remarks>
internal sealed partial class ControlThread
{
    /// <summary>Longest wait of a new process for the event of its parent, which comes at once unless the parent was killed.</summary>
    private static readonly TimeSpan s_claimTime = TimeSpan.FromSeconds(1);

    /// <summary>New tasks whose parent's event has come and whose own first stop has not, with the parent, and whether they share its memory.</summary>
    private readonly Dictionary<int, (ProcessHandle Parent, bool? SharesMemory)> _awaited = [];

    /// <summary>The other way round: answered already.</summary>
    private readonly HashSet<int> _early = [];

    /// <summary>The other way round: standing at their first stop until it is known whose they are.</summary>
    private readonly Dictionary<int, (WaitStatus Status, long When)> _unclaimed = [];
    private bool _hadSeveral;

    private void Start(ProcessHandle process)
    {
        _hadSeveral |= _hasStarted;
        _hasStarted = true;
        _processes.Add(process);
        foreach ((int id, TracedTask task) in process.Tasks)
        {
            _tasks[id] = task;
        }
    }

    private void Add(TracedTask task)
    {
        task.Process.Tasks[task.ThreadId] = task;
        _tasks[task.ThreadId] = task;
    }

    private bool Remove(TracedTask task)
    {
        _stoppedSignal.Remove(task.ThreadId);
        _tasks.Remove(task.ThreadId);
        return task.Process.Tasks.Remove(task.ThreadId);
    }

    /// <summary>Somebody we have not seen stands. Returns null when that was all, for the time being or for good.</summary>
    private TracedTask? Identify(int id, WaitStatus status)
    {
        if (status.Event == PtraceEvent.Exec && _processes.Find(p => p.ProcessId == id) is { } process)
        {
            // Executed by a thread of a process whose leader we never had.
            TracedTask leader = new(id, process);
            Add(leader);
            return leader;
        }

        if (_awaited.Remove(id, out (ProcessHandle Parent, bool? SharesMemory) awaited))
        {
            return Adopt(awaited.Parent, id, awaited.SharesMemory);
        }

        if (!_hadSeveral && _processes.Count == 1)
        {
            _early.Add(id);
            return Adopt(_processes[0], id, null);
        }

        _unclaimed[id] = (status, Stopwatch.GetTimestamp());
        return null;
    }

    /// <summary>A new thread of the target, or a process it made. Returns null when it was let go.</summary>
    /// <param name="process">Whose it is.</param>
    /// <param name="id">It, at its first stop.</param>
    /// <param name="sharesMemory">Whether it shares the memory of its maker, if that was asked already.</param>
    private TracedTask? Adopt(ProcessHandle process, int id, bool? sharesMemory)
    {
        if (process.IsReleased)
        {
            _platform.Detach(id, 0);
            return null;
        }

        // Asked without a file: a tracer that has run out of descriptors must not leave a new thread standing.
        bool isThread = _platform.SignalThread(process.ProcessId, id, 0) is Errno.None or Errno.EPERM;
        if (!isThread && !SharesMemory(process, id, sharesMemory))
        {
            return OnForked(process, id);
        }

        TracedTask task = new(id, process) { IsVisitor = !isThread, KnownMask = ReadMask(id) };
        Add(task);
        return task;
    }

    /// <summary>
    /// The call by which it was made says it. The rest is for an arm64 child that comes before its parent's event: kcmp, of which only a yes is certain, for a thread that exits has no memory
    /// any more; and where there is no kcmp, a trap lifted for a moment, through which another thread may slip.
    /// </summary>
    private bool SharesMemory(ProcessHandle process, int id, bool? known)
    {
        if ((known ?? CloneCall.SharesMemoryOfMaker(_platform, process.Architecture, id)) is { } told)
        {
            return told;
        }

        bool isAnswered = false;
        foreach (TracedTask task in process.Tasks.Values.Where(t => !t.IsVisitor))
        {
            bool? isSame = _platform.SharesAddressSpace(id, task.ThreadId);
            if (isSame == true)
            {
                return true;
            }

            isAnswered |= isSame is not null;
        }

        return !isAnswered && (process.Handler?.SharesMemory(id) == true || process.ControlBreakpoints.SharesMemory(id));
    }

    /// <summary>A parent's event names the child. A detach must not overlook one that has our traps.</summary>
    private void Expect(TracedTask parent)
    {
        if (_platform.GetEventMessage(parent.ThreadId, out ulong message) != Errno.None)
        {
            return;
        }

        int id = (int)message;
        if (_unclaimed.Remove(id, out (WaitStatus Status, long When) stop))
        {
            Claim(parent.Process, id, stop.Status, CloneCall.SharesMemory(_platform, parent.Process.Architecture, parent.ThreadId));
        }
        else if (!_early.Remove(id) && !_tasks.ContainsKey(id))
        {
            _awaited[id] = (parent.Process, CloneCall.SharesMemory(_platform, parent.Process.Architecture, parent.ThreadId));
        }
    }

    private void Claim(ProcessHandle process, int id, WaitStatus status, bool? sharesMemory = null)
    {
        if (Adopt(process, id, sharesMemory) is { } task)
        {
            OnStop(task, status);
        }
    }

    /// <summary>A process is about to go: who stands without a parent that lives is its child.</summary>
    private void ClaimFor(ProcessHandle process)
    {
        TakeAwaited(process);
        foreach ((int id, (WaitStatus status, _)) in _unclaimed.ToArray())
        {
            if (!TryFindParent(id, out ProcessHandle? parent) || parent == process)
            {
                _unclaimed.Remove(id);
                Claim(process, id, status);
            }
        }
    }

    /// <summary>Children that were announced come before the parent's end: what they inherited is known now only.</summary>
    private void TakeAwaited(ProcessHandle process)
    {
        long start = Stopwatch.GetTimestamp();
        ShortWait wait = default;
        while (_awaited.Values.Any(a => a.Parent == process))
        {
            bool hasChanged = false;
            foreach (int id in _awaited.Where(pair => pair.Value.Parent == process).Select(pair => pair.Key).ToArray())
            {
                if (Take(id, block: false, out WaitStatus status) == id)
                {
                    OnReport(id, status);
                    hasChanged = true;
                }
                else if (!IsOurs(id) || Stopwatch.GetElapsedTime(start) > s_claimTime)
                {
                    _awaited.Remove(id);
                    hasChanged = true;
                }
            }

            if (hasChanged)
            {
                wait = default;
            }
            else
            {
                wait.Next();
            }
        }
    }

    /// <summary>The event of a parent that was killed never comes: what stands is not left standing.</summary>
    private void ClaimOverdue()
    {
        if (_unclaimed.Count == 0)
        {
            return;
        }

        foreach ((int id, (WaitStatus status, long when)) in _unclaimed.ToArray())
        {
            if (Stopwatch.GetElapsedTime(when) < s_claimTime)
            {
                continue;
            }

            _unclaimed.Remove(id);
            if (TryFindParent(id, out ProcessHandle? parent))
            {
                Claim(parent, id, status);
            }
            else
            {
                Log.UnknownChildReleased(_logger, id);
                _platform.Detach(id, 0);
            }
        }
    }

    private bool TryFindParent(int id, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out ProcessHandle? parent)
    {
        parent = null;
        if (ProcStatus.TryRead(_platform, id, out ProcStatus? status, out _))
        {
            int parentId = status!.Tgid == id ? status.PPid : status.Tgid;
            parent = _processes.Find(p => p.ProcessId == parentId);
        }

        return parent is not null;
    }

    /// <summary>Whether somebody was announced, or stands, that is ours and may be this process's: it may have our traps.</summary>
    private bool IsAnybodyAwaited(ProcessHandle process)
    {
        foreach ((int id, (ProcessHandle parent, _)) in _awaited)
        {
            if (parent == process && !IsOurs(id))
            {
                // Of a dictionary one may remove while one looks.
                _awaited.Remove(id);
            }
        }

        return _unclaimed.Count != 0 || _awaited.Values.Any(a => a.Parent == process);
    }

    /// <summary>A fork child has its own copy of our traps: it gets clean text, and goes, or stands as a process of its own.</summary>
    private TracedTask? OnForked(ProcessHandle process, int id)
    {
        process.ControlBreakpoints.CleanForkChild(id, _logger);
        _registers = new RegisterSet(process.Architecture);
        if (process.Handler is not null && _platform.GetRegisters(id, ref _registers) == Errno.None)
        {
            process.Handler.CleanForkChild(id, ref _registers, out bool modified);
            if (modified)
            {
                _platform.SetRegisters(id, _registers);
            }
        }

        if (!IsFollowed(process))
        {
            _platform.Detach(id, 0);
            return null;
        }

        return Announce(process, id, ReadMask(id));
    }

    private bool IsFollowed(ProcessHandle parent) => parent is { FollowsChildren: true, Observer: not null } && _detaching != parent && !parent.IsReleased;

    /// <summary>Makes a handle of a new process, which stands, and tells of it.</summary>
    private TracedTask Announce(ProcessHandle parent, int id, ulong mask)
    {
        ProcessHandle child = new(_platform, this, id, parent.Architecture, wasCreated: false)
        {
            Parent = parent,
            Observer = parent.Observer,
            FollowsChildren = true,
        };
        TracedTask leader = new(id, child) { State = TaskState.Stopped, KnownMask = mask };
        leader.Hold();
        child.Tasks.Add(id, leader);
        Start(child);
        Log.Followed(_logger, id, parent.ProcessId);
        if (!Notify(child, leader, observer => observer.OnForked(parent, child)))
        {
            // Nobody would let it go on.
            leader.Holds = 0;
        }

        return leader;
    }

    private ulong ReadMask(int id) => _platform.GetSignalMask(id, out ulong mask) == Errno.None ? mask : 0;
}
