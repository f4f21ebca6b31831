namespace FastTrap.Control;

/// <summary>The queue of work of a control thread.</summary>
internal sealed partial class ControlThread
{
    private readonly Queue<SlicedWork> _slices = new();

    private abstract class Work
    {
        private volatile bool _isTaken;

        public bool IsTaken => _isTaken;

        public void Take() => _isTaken = true;

        public abstract void Refuse(FastTrapException reason);
    }

    private abstract class CallWork : Work
    {
        public abstract void Run();
    }

    private sealed class CallWork<T>(Func<T> work) : CallWork
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

    private sealed class SlicedWork(IEnumerator<bool> slices) : Work
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

    private void RunQueued()
    {
        if (_slices.Count != 0 || !_queue.IsEmpty)
        {
            StopFollowing();
        }

        // Sliced work keeps its place: what was posted later waits, so that enabling and disabling stay in order.
        if (_slices.Count > 0)
        {
            if (_slices.Peek().RunOne())
            {
                return;
            }

            _slices.Dequeue();
        }

        while (_slices.Count == 0 && _queue.TryDequeue(out Work? work))
        {
            work.Take();
            if (work is CallWork call)
            {
                call.Run();
                if (_ending)
                {
                    return;
                }
            }
            else
            {
                SlicedWork sliced = (SlicedWork)work;
                if (sliced.RunOne())
                {
                    _slices.Enqueue(sliced);
                    return;
                }
            }
        }
    }

    private void RefuseQueued()
    {
        int processId = Process?.ProcessId ?? 0;
        bool isDetached = Process is { IsOver: true } process && process.Completion.Result.Kind == ProcessExitKind.Detached;
        FastTrapException reason = isDetached
            ? new(FastTrapError.Detached, $"Process {processId} was detached from; attach to it again.", processId)
            : new(FastTrapError.ProcessEnded, $"Process {processId} has ended.", processId);
        if (IsCurrent)
        {
            while (_slices.TryDequeue(out SlicedWork? sliced))
            {
                sliced.Refuse(reason);
            }
        }

        while (_queue.TryDequeue(out Work? work))
        {
            work.Take();
            work.Refuse(reason);
        }
    }
}
