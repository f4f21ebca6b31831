using System.Diagnostics;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>On which CPU the control thread runs, and how soon: keeping it on the CPU of the thread that is hit, where the one wakes the other without waking a CPU, and ahead of others while threads stand.</summary>
/// <remarks>
/// Scheme. Where a thread ran last is asked after a hit, at first every millisecond and ever more seldom while the answer stays the same. The control thread goes
/// back to all its CPUs before work that others ordered, which is long and would take the CPU from the target, and follows nobody until that is over: each move waits until the CPU that it goes to lets it in, some milliseconds where another thread of
/// the target is busy there, in which those that have stopped would stand. The target itself is never moved.
/// Urgency. A thread that is resumed may take the CPU of the control thread, and keep it for a slice of the scheduler, while another one stands. So the control thread goes ahead of others, where it has the right to, while it visits threads, borrows one, and leads them out at
/// the detach: for some milliseconds as a rule, with the hits that come meanwhile. Not while it analyses, builds and writes code, which is long, and would take a single CPU from the target.
/// </remarks>
internal sealed partial class ControlThread
{
    private const int Anywhere = -1;
    private static readonly long s_shortestLook = Stopwatch.Frequency / 1000;
    private static readonly long s_longestLook = Stopwatch.Frequency / 10;

    private bool _follows;
    private int _cpu = Anywhere;
    private int[]? _allowedCpus;
    private long _nextLook;
    private long _lookInterval = s_shortestLook;
    private int _urgencies;
    private bool _isUrgent;

    /// <summary>Goes after the thread that has just been reported, if it is time to look where it is.</summary>
    private void Follow(int threadId)
    {
        if (!_follows || _isAtWork || HasWork || _lastReport < _nextLook)
        {
            return;
        }

        _allowedCpus ??= ReadAllowedCpus();
        if (!ProcStat.TryRead(_platform, threadId, out ProcStat stat, out _))
        {
            return;
        }

        if (stat.Processor == _cpu)
        {
            _lookInterval = Math.Min(_lookInterval * 2, s_longestLook);
        }
        else
        {
            _lookInterval = s_shortestLook;

            // Where we may not go (a cpuset, taskset) the target is not followed; it may come back. On the CPU of a real-time program we might never run.
            bool isAllowed = stat.RealTimePriority == 0 && Array.IndexOf(_allowedCpus, stat.Processor) >= 0;
            if (isAllowed && _platform.SetAffinity(0, [stat.Processor]) == Errno.None)
            {
                _cpu = stat.Processor;
            }
            else
            {
                StopFollowing();
            }
        }

        _nextLook = _lastReport + _lookInterval;
    }

    /// <summary>
    /// Has a thread of ours go to each CPU on which a process may run: then whoever ran there has passed through the kernel, and no processor holds code from before. False where that cannot be done: on CPUs that are not ours, and beside real-time
    /// threads, which may not let us in, or not in time. Control thread only.
    /// </summary>
    public bool PassProcessors(ProcessHandle process)
    {
        StopFollowing();
        int[] own = ReadAllowedCpus();
        foreach (TracedTask task in process.Tasks.Values.ToArray())
        {
            HandleWaiting();
            if (!ProcStatus.TryRead(_platform, task.ThreadId, out ProcStatus? status, out _) || status!.AllowedCpus.Any(cpu => Array.IndexOf(own, cpu) < 0)
                || !ProcStat.TryRead(_platform, task.ThreadId, out ProcStat stat, out _) || stat.RealTimePriority != 0)
            {
                return false;
            }
        }

        bool isEverywhere = own.Length != 0;
        return TryRunAside(process, Pass) && isEverywhere;

        void Pass()
        {
            // On a busy CPU it would have to wait for its turn, and who stands meanwhile with it.
            bool isUrgent = _platform.SetUrgent(true) == Errno.None;
            foreach (int processor in own)
            {
                // EINVAL: it is off.
                isEverywhere &= _platform.SetAffinity(0, [processor]) is Errno.None or Errno.EINVAL;
            }

            _ = _platform.SetAffinity(0, own);
            _ = isUrgent ? _platform.SetUrgent(false) : Errno.None;
        }
    }

    /// <summary>Until what is returned is disposed of, the control thread goes ahead of others on its CPU, if it may: for work during which threads of the target may stand and wait for it. Control thread only.</summary>
    private Urgency BeUrgent()
    {
        if (_urgencies++ == 0 && !_isUrgent)
        {
            _isUrgent = _platform.SetUrgent(true) == Errno.None;
        }

        return new Urgency(this);
    }

    private void EndUrgency()
    {
        if (--_urgencies == 0 && _isUrgent)
        {
            _isUrgent = _platform.SetUrgent(false) != Errno.None;
        }
    }

    /// <summary>What <see cref="BeUrgent"/> has begun.</summary>
    private readonly struct Urgency(ControlThread thread) : IDisposable
    {
        public void Dispose() => thread.EndUrgency();
    }

    /// <summary>Allows all CPUs again.</summary>
    private void StopFollowing()
    {
        if (_cpu != Anywhere)
        {
            _cpu = Anywhere;
            _lookInterval = s_shortestLook;
            _nextLook = 0;
            _ = _platform.SetAffinity(0, _allowedCpus);
        }
    }

    private int[] ReadAllowedCpus() =>
        ProcStatus.TryReadThread(_platform, _platform.CurrentProcessId, _platform.CurrentThreadId, out ProcStatus? status, out _) ? [.. status!.AllowedCpus] : [];
}
