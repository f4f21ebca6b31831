using System.Diagnostics;

namespace FastTrap.Control;

/// <summary>The queue of work of a control thread.</summary>
/// <remarks>
/// Posted work comes in one queue, and is sorted into one list for each process. The processes that have work take turns: of each, in the order in which
/// it was posted, calls up to the next slice, then one slice.
/// </remarks>
internal sealed partial class ControlThread
{
    private readonly Dictionary<ProcessHandle, WorkList> _works = [];
    private readonly WorkList _starts = new(null);
    private readonly Queue<WorkList> _busy = new();

    /// <summary>So long a thread may wait for the slice that is under way.</summary>
    private static readonly long s_sliceTicks = Stopwatch.Frequency / 4000;

    /// <summary>What is made of fewer takes less time than a slice.</summary>
    private const int ManyThings = 4096;

    private long _sliceStart;
    private SideThread? _side;

    /// <summary>Whether work that was ordered has its turn.</summary>
    private bool _isAtWork;

    private bool HasWork => _busy.Count != 0;

    /// <summary>Whether a slice of work has had its time, and is to let reports pass. Control thread only.</summary>
    public bool IsSliceOver => Stopwatch.GetTimestamp() - _sliceStart > s_sliceTicks;

    /// <summary>The work of one process; of none, for what starts one.</summary>
    private sealed class WorkList(ProcessHandle? process)
    {
        public ProcessHandle? Process { get; } = process;

        public Queue<Work> Pending { get; } = new();

        /// <summary>The work which has begun and has more slices: what was posted later waits, so that enabling and disabling stay in order.</summary>
        public SlicedWork? Begun { get; set; }

        /// <summary>Whether it waits for its turn, or has it.</summary>
        public bool IsBusy { get; set; }

        public void Refuse(FastTrapException reason)
        {
            Begun?.Refuse(reason);
            Begun = null;
            while (Pending.TryDequeue(out Work? work))
            {
                work.Refuse(reason);
            }
        }
    }

    private abstract class Work(ProcessHandle? process)
    {
        private volatile bool _isTaken;

        public ProcessHandle? Process { get; } = process;

        public bool IsTaken => _isTaken;

        public void Take() => _isTaken = true;

        public abstract void Refuse(FastTrapException reason);
    }

    private abstract class CallWork(ProcessHandle? process) : Work(process)
    {
        /// <summary>It ends a process, and has to be done also when that is over but visitors of it are left.</summary>
        public bool IsRelease { get; init; }

        public abstract void Run();
    }

    private sealed class CallWork<T>(ProcessHandle? process, Func<T> work) : CallWork(process)
    {
        private readonly TaskCompletionSource<T> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task<T> Task => _done.Task;

        public override void Run()
        {
            try
            {
                _done.SetResult(work());
            }
            catch (Exception e)
            {
                _done.SetException(e);
            }
        }

        public override void Refuse(FastTrapException reason) => _done.TrySetException(reason);
    }

    private sealed class SlicedWork(ProcessHandle process, IEnumerator<bool> slices) : Work(process)
    {
        private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Task => _done.Task;

        /// <summary>Runs one slice; true if there are more.</summary>
        public bool RunOne()
        {
            try
            {
                if (slices.MoveNext())
                {
                    return true;
                }

                slices.Dispose();
                _done.SetResult();
            }
            catch (Exception e)
            {
                _done.SetException(e);
            }

            return false;
        }

        public override void Refuse(FastTrapException reason)
        {
            slices.Dispose();
            _done.TrySetException(reason);
        }
    }

    /// <summary>
    /// Has something done that may have to wait, for a CPU or for the garbage collector: by another thread, while reports are handled here. False if there can be no such thread, or it is busy with what took too long before: nothing was
    /// done; or if this has failed, or is not over in time. Control thread only, and not from within a hit.
    /// </summary>
    public bool TryRunAside(ProcessHandle process, Action work)
    {
        PrepareAside();
        return _side is { } side && side.TryAsk(work) && PumpUntil(() => side.IsOver || process.IsOver, s_visitTimeout) && side.IsDone;
    }

    /// <summary>To be called before threads may have to wait: making a thread waits until it has got a CPU.</summary>
    public void PrepareAside() => _side ??= SideThread.TryMake();

    /// <summary>Has something made of so many things, which do not change by reports: aside where they are many, so that no thread waits for it. Control thread only, and not from within a hit.</summary>
    public T Make<T>(ProcessHandle process, int count, Func<T> make)
        where T : class
    {
        T? made = null;
        return count >= ManyThings && TryRunAside(process, () => made = make()) && made is not null ? made : make();
    }

    private void RunQueued()
    {
        SortQueued();
        if (_busy.Count == 0)
        {
            return;
        }

        StopFollowing();
        bool wasAtWork = _isAtWork;
        _isAtWork = true;
        for (int turns = _busy.Count; turns > 0 && !_ending && _busy.TryDequeue(out WorkList? list); turns--)
        {
            if (RunTurn(list))
            {
                _busy.Enqueue(list);
                continue;
            }

            list.IsBusy = false;
            if (list.Process is { IsOver: true } process)
            {
                _works.Remove(process);
            }
        }

        _isAtWork = wasAtWork;
    }

    private void SortQueued()
    {
        while (_queue.TryDequeue(out Work? work))
        {
            work.Take();
            WorkList? list = _starts;
            if (work.Process is { } process && !_works.TryGetValue(process, out list))
            {
                list = new WorkList(process);
                _works.Add(process, list);
            }

            list.Pending.Enqueue(work);
            if (!list.IsBusy)
            {
                list.IsBusy = true;
                _busy.Enqueue(list);
            }
        }
    }

    /// <summary>One turn of one process; true if it has more to do.</summary>
    private bool RunTurn(WorkList list)
    {
        if (list.Begun is { } begun)
        {
            if (list.Process!.IsOver)
            {
                begun.Refuse(list.Process.MakeRefusal());
            }
            else if (RunSlice(begun))
            {
                return true;
            }

            list.Begun = null;
        }

        while (!_ending && list.Pending.TryDequeue(out Work? work))
        {
            CallWork? call = work as CallWork;
            if (list.Process is { IsOver: true } over && !(call is { IsRelease: true } && _processes.Contains(over)))
            {
                work.Refuse(over.MakeRefusal());
            }
            else if (call is not null)
            {
                call.Run();
            }
            else if (RunSlice((SlicedWork)work))
            {
                list.Begun = (SlicedWork)work;
                return true;
            }
        }

        return list.Pending.Count != 0;
    }

    private bool RunSlice(SlicedWork work)
    {
        _sliceStart = Stopwatch.GetTimestamp();
        return work.RunOne();
    }

    /// <summary>The thread is over, or about to be.</summary>
    private void RefuseQueued()
    {
        if (IsCurrent)
        {
            foreach (WorkList list in _works.Values.Append(_starts))
            {
                list.Refuse(MakeRefusal(list.Process));
            }
        }

        while (_queue.TryDequeue(out Work? work))
        {
            work.Take();
            work.Refuse(MakeRefusal(work.Process));
        }
    }

    private static FastTrapException MakeRefusal(ProcessHandle? process) =>
        process?.MakeRefusal() ?? new FastTrapException(FastTrapError.ProcessEnded, "The control thread has ended; attach again.");
}
