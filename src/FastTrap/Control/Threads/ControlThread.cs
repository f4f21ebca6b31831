using System.Collections.Concurrent;
using System.Diagnostics;
using FastTrap.Native;
using Microsoft.Extensions.Logging;

namespace FastTrap.Control;

/// <summary>
/// The one operating-system thread which makes every ptrace call of a process and of the children of it that are followed, waits for their stops and runs
/// their handlers: the kernel gives a fork child to the thread that traces the parent, and to no other.
/// </summary>
/// <remarks>
/// Scheme. All processes and their threads belong to this thread; a report finds its process by the thread's id. Others post work (<see cref="InvokeAsync{T}(ProcessHandle, Func{T})"/>) to a queue and wake the thread; the thread alternates between reports of the kernel
/// and work, one slice of work for each process that has any, in the order in which it was posted for that process, so that a long enabling starves neither
/// stopped threads nor other processes. It ends when its last process is over or released. The thread publishes in <c>_sleeping</c>
/// that it is about to sleep in wait; a poster sends the wake signal again and again until that flag or the queue shows that it was seen,
/// for a signal that comes just before the sleep has no effect. When the thread ends, the kernel detaches whatever it still traces, without
/// stopping it: this is how sleeping threads are let go without disturbing their system calls.
/// Source: dt_proc.c, dt_proc_control.
/// </remarks>
internal sealed partial class ControlThread
{
    private static readonly TimeSpan s_wakeInterval = TimeSpan.FromMicroseconds(200);

    private readonly IPlatform _platform;
    private readonly ILogger _logger;
    private readonly Thread _thread;
    private readonly ConcurrentQueue<Work> _queue = new();
    private readonly PtraceOptions _options;

    /// <summary>Processes that are neither released nor altogether gone.</summary>
    private readonly List<ProcessHandle> _processes = [];

    /// <summary>The threads of all processes, also of released ones.</summary>
    private readonly Dictionary<int, TracedTask> _tasks = [];
    private readonly object _idle = new();
    private readonly long _spinTicks;
    private readonly TimeSpan _detachTimeout;
    private volatile bool _sleeping;
    private volatile bool _sleepingIdle;
    private volatile bool _closed;
    private int _threadId;
    private bool _ending;
    private bool _hasStarted;
    private bool _hadReport;
    private long _lastReport;

    /// <summary>When no report waited, last.</summary>
    private long _lastIdle;

    public ControlThread(IPlatform platform, TracerOptions options, ILogger logger)
    {
        _platform = platform;
        _logger = logger;
        _spinTicks = options.SpinMicroseconds * Stopwatch.Frequency / 1_000_000;
        _follows = options.Affinity == ControlThreadAffinity.FollowTarget;
        _detachTimeout = options.DetachTimeout;
        _options = options.KillTargetsWithTracer ? Options | PtraceOptions.ExitKill : Options;
        _thread = new Thread(Run) { IsBackground = true, Name = "FastTrap control" };
        _thread.Start();
    }

    /// <summary>Whether the caller is the control thread itself: a handler's code.</summary>
    public bool IsCurrent => Environment.CurrentManagedThreadId == _thread.ManagedThreadId;

    /// <summary>How many of its processes have sites from whose traps threads are led. Control thread only.</summary>
    public int LeadingProcesses { get; set; }

    /// <summary>The passes of its loop, for whoever waits until it uses nothing of before.</summary>
    public PassCounter Passes { get; } = new();

    /// <summary>When the kernel's report that is being handled came (<see cref="Stopwatch"/> ticks).</summary>
    public long LastReport => _lastReport;

    /// <summary>Runs something on the control thread which concerns no process yet: an attach, a create.</summary>
    public Task<T> InvokeAsync<T>(Func<T> work) => InvokeAsync(null, work);

    /// <summary>Runs something on the control thread.</summary>
    /// <exception cref="FastTrapException">The process ended or was detached: the work did not run.</exception>
    public Task<T> InvokeAsync<T>(ProcessHandle? process, Func<T> work)
    {
        if (IsCurrent)
        {
            throw new InvalidOperationException("A handler cannot ask this of its own process: it must return first. Signal another thread to do it.");
        }

        CallWork<T> call = new(process, work);
        Post(call);
        return call.Task;
    }

    /// <summary>Runs something in slices: each step of the iterator runs between reports of the kernel.</summary>
    /// <exception cref="FastTrapException">The process ended or was detached: the rest did not run, and the iterator was disposed.</exception>
    public Task RunSlicedAsync(ProcessHandle process, IEnumerator<bool> slices)
    {
        SlicedWork work = new(process, slices);
        Post(work);
        return work.Task;
    }

    /// <summary>Waits for the operating-system thread to be gone; then the kernel has let go of everything.</summary>
    public Task WaitForEndAsync() => Task.Run(() =>
    {
        _thread.Join();

        // Join returns a little before the kernel's thread is gone, and it is the kernel's thread that traces.
        // (The id may be another thread's by then: hence the limit.)
        string path = $"/proc/self/task/{Volatile.Read(ref _threadId)}/stat";
        long start = Stopwatch.GetTimestamp();
        while (_threadId != 0 && _platform.ReadProcFile(path, out _) is not null && Stopwatch.GetElapsedTime(start) < _detachTimeout)
        {
            Thread.Yield();
        }
    });

    private void Post(Work work)
    {
        _queue.Enqueue(work);
        Interlocked.MemoryBarrier();
        if (_closed)
        {
            RefuseQueued();
            return;
        }

        Wake(work);
    }

    private void Wake(Work work)
    {
        if (IsCurrent)
        {
            return;
        }

        SpinWait spin = default;
        long sent = 0;
        while (!work.IsTaken && !_closed)
        {
            if (_sleepingIdle)
            {
                lock (_idle)
                {
                    Monitor.Pulse(_idle);
                }

                return;
            }

            if (!_sleeping)
            {
                // It runs: the queue is looked at before the next sleep.
                Interlocked.MemoryBarrier();
                if (!_sleeping && !_sleepingIdle)
                {
                    return;
                }

                continue;
            }

            // Real-time signals queue up: one is sent, and the next only when it seems to have come too early. An error (EAGAIN: there are
            // enough) is no reason to give up, for the work is queued already; that there is a signal at all was seen to at the attach.
            if (sent == 0 || Stopwatch.GetElapsedTime(sent) > s_wakeInterval)
            {
                _ = _platform.WakeThread(Volatile.Read(ref _threadId));
                sent = Stopwatch.GetTimestamp();
            }

            spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    private void Run()
    {
        Volatile.Write(ref _threadId, _platform.CurrentThreadId);
        try
        {
            while (!_ending)
            {
                Passes.Pass();
                RunQueued();
                if (_ending)
                {
                    break;
                }

                if (_processes.Count == 0)
                {
                    if (_hasStarted)
                    {
                        break;
                    }

                    SleepIdle();
                    continue;
                }

                // Between two slices everybody who stands is answered; who hits probes without end does not keep work from being done.
                int most = LeastReports + (ReportsPerTask * _tasks.Count);
                do
                {
                    Step(block: !HasWork);
                }
                while (_hadReport && HasWork && --most > 0 && !_ending);
            }
        }
        catch (Exception e)
        {
            LetGo(e);
        }
        finally
        {
            _closed = true;
            _side?.End();
            Passes.End();
            Interlocked.MemoryBarrier();
            foreach (ProcessHandle process in _processes.ToArray())
            {
                // The kernel lets go of it with this thread.
                Complete(process, new ProcessExit(ProcessExitKind.Lost, 0, 0));
            }

            RefuseQueued();
        }
    }

    /// <summary>After a failure of this thread: no trap may stay, and no thread on one.</summary>
    private void LetGo(Exception cause)
    {
        foreach (ProcessHandle process in _processes.ToArray())
        {
            try
            {
                if (process.Tasks.Count != 0)
                {
                    _detaching = null;
                    Detach(process, ReleaseKind.Run, leavesSleepers: true);
                }
            }
            catch (Exception e)
            {
                Log.RestoreFailed(_logger, e, process.ProcessId);
            }

            Log.ControlThreadFailed(_logger, cause, process.ProcessId);
        }
    }

    private void SleepIdle()
    {
        lock (_idle)
        {
            _sleepingIdle = true;
            Interlocked.MemoryBarrier();
            if (_queue.IsEmpty)
            {
                Passes.Rest();
                Monitor.Wait(_idle);
            }

            _sleepingIdle = false;
        }
    }

    /// <summary>One report of the kernel, or none: polls while reports come often, then sleeps if <paramref name="block"/> allows.</summary>
    private void Step(bool block)
    {
        // Of one thread that was resumed a moment ago there is nothing yet: it is given the CPU before it is asked.
        bool polls = block && _spinTicks != 0 && _hadReport;
        WaitStatus status = default;
        int id = polls && _tasks.Count == 1 ? 0 : Ask(out status);
        if (id == 0 && polls)
        {
            id = Poll(out status);
        }

        if (id == 0 && block && _unclaimed.Count != 0)
        {
            // Somebody stands and waits for a report of its parent: that comes soon, or never.
            ClaimOverdue();
            Thread.Sleep(1);
        }
        else if (id == 0 && block && _queue.IsEmpty)
        {
            _sleeping = true;
            Interlocked.MemoryBarrier();
            if (_queue.IsEmpty)
            {
                Passes.Rest();
                id = Take(-1, block: true, out status);
                _lastIdle = Stopwatch.GetTimestamp();
                Passes.Pass();
            }

            _sleeping = false;
        }

        _hadReport = id > 0;
        if (id > 0)
        {
            OnReport(id, status);
            TakeTurns();
            Follow(id);
        }
        else if (id == -(int)Errno.ECHILD)
        {
            OnNothingTraced();
        }
    }

    /// <summary>A report that waits; 0: none does.</summary>
    private int Ask(out WaitStatus status)
    {
        long now = Stopwatch.GetTimestamp();
        int id = Take(-1, block: false, out status);
        _lastIdle = id == 0 ? now : _lastIdle;
        return id;
    }

    private int Poll(out WaitStatus status)
    {
        long start = 0;
        do
        {
            Thread.Yield();
            int id = Ask(out status);
            if (id != 0)
            {
                return id;
            }

            start = start == 0 ? _lastIdle : start;
        }
        while (_lastIdle - start < _spinTicks && _queue.IsEmpty);
        return 0;
    }

    /// <summary>Handles reports for some time, and nothing else. Control thread only, and not from within a hit.</summary>
    public void HandleReports(TimeSpan time) => PumpUntil(static () => false, time);

    /// <summary>Handles reports until a condition holds or time is up; used inside work on the control thread.</summary>
    private bool PumpUntil(Func<bool> condition, TimeSpan timeout)
    {
        long start = Stopwatch.GetTimestamp();
        ShortWait wait = default;
        while (!condition())
        {
            int id = Ask(out WaitStatus status);
            if (id > 0)
            {
                OnReport(id, status);
                TakeTurns();
                wait = default;
            }
            else if (id == -(int)Errno.ECHILD)
            {
                OnNothingTraced();
                return condition();
            }
            else
            {
                ClaimOverdue();
                wait.Next();
            }

            if (Stopwatch.GetElapsedTime(start) > timeout)
            {
                return condition();
            }
        }

        return true;
    }
}
