using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Getting hold of a process.</summary>
internal sealed partial class ControlThread
{
    private const PtraceOptions Options =
        PtraceOptions.TraceSysGood | PtraceOptions.TraceClone | PtraceOptions.TraceFork | PtraceOptions.TraceVfork | PtraceOptions.TraceExec;

    /// <summary>Seizes all threads of a running process. None is stopped. On failure nothing is left attached once the thread has ended.</summary>
    /// <param name="processId">The process.</param>
    /// <param name="observer">Who is told of its life, from the first report on.</param>
    /// <param name="followsChildren">Whether its children are followed.</param>
    public ProcessHandle Attach(int processId, IProcessObserver? observer = null, bool followsChildren = false)
    {
        RequireWakeSignal();
        Architecture architecture = AttachDiagnosis.Inspect(_platform, processId);
        ProcessHandle process = new(_platform, this, processId, architecture, wasCreated: false)
        {
            Observer = observer,
            FollowsChildren = followsChildren,
        };
        try
        {
            SeizeThreads(process);
        }
        catch (FastTrapException) when (process.Tasks.Count != 0)
        {
            // Those that are seized already are detached one by one: the kernel ends a target whose tracer goes, if that was asked for.
            Start(process);
            throw;
        }

        if (process.Tasks.Count == 0)
        {
            throw AttachDiagnosis.Ended(processId);
        }

        Start(process);
        SeizeVisitors(process);
        Log.Attached(_logger, processId, process.Tasks.Count);
        return process;
    }

    /// <summary>To be called before the first trap is written, or what another tracer has left is removed: seizes whoever was being made at the attach.</summary>
    /// <exception cref="FastTrapException">A process that shares the memory cannot be traced.</exception>
    public void SeizeRest(ProcessHandle process)
    {
        if (!process.HasEverybody && !process.IsOver)
        {
            SeizeThreads(process);
            SeizeVisitors(process);
            process.HasEverybody = true;
        }
    }

    /// <summary>Seizes the threads that are not ours yet. Those that ours make are, but for one that was being made when its maker was seized: so it is asked again before the first trap.</summary>
    private void SeizeThreads(ProcessHandle process)
    {
        List<int> ids = [];
        bool found = true;
        while (found)
        {
            found = false;
            ids.Clear();
            int count = _platform.ListProcIds($"/proc/{process.ProcessId}/task", ids);
            if (count < 0)
            {
                throw AttachDiagnosis.Ended(process.ProcessId);
            }

            foreach (int id in ids)
            {
                if (process.Tasks.ContainsKey(id))
                {
                    continue;
                }

                Errno error = _platform.Seize(id, _options);
                if (error == Errno.ESRCH)
                {
                    continue;
                }

                if (error != Errno.None)
                {
                    if (IsOurs(id))
                    {
                        // A new thread of a seized one: the kernel attached it already, its first stop is on the way.
                        continue;
                    }

                    if (IsZombieOrGone(id))
                    {
                        // A thread that is about to end, or a leader that has left its other threads behind, cannot be seized, and need not be.
                        continue;
                    }

                    throw AttachDiagnosis.SeizeFailed(_platform, process.ProcessId, error);
                }

                ulong mask = ProcStatus.TryRead(_platform, id, out ProcStatus? status, out _) ? status!.SigBlk : 0;
                Add(new TracedTask(id, process) { KnownMask = mask });
                found = true;
            }
        }
    }

    /// <summary>
    /// Seizes the processes that were made before and share the memory, as a vfork child does until its exec: they run into the same traps. Asked again before the first trap,
    /// as for threads.
    /// </summary>
    private void SeizeVisitors(ProcessHandle process)
    {
        List<int> children = [];
        Queue<TracedTask> makers = new(process.Tasks.Values);
        while (makers.TryDequeue(out TracedTask? maker))
        {
            children.Clear();
            ProcTasks.AddChildren(_platform, maker.IsVisitor ? maker.ThreadId : process.ProcessId, maker.ThreadId, children);
            foreach (int id in children)
            {
                bool isYoungest = id == children[^1];
                if (!_tasks.ContainsKey(id) && !_awaited.ContainsKey(id) && IsVisitor(process, maker, id, isYoungest) && TrySeizeVisitor(process, maker, id, isYoungest) is { } visitor)
                {
                    maker.IsAtVfork |= IsInFork(process, maker);
                    makers.Enqueue(visitor);
                }
            }
        }
    }

    /// <summary>Null if it is none any more, or is ours already.</summary>
    private TracedTask? TrySeizeVisitor(ProcessHandle process, TracedTask maker, int id, bool isYoungest)
    {
        Errno error = _platform.Seize(id, _options);
        bool isVisitor = IsVisitor(process, maker, id, isYoungest);
        if (error != Errno.None)
        {
            if (error == Errno.ESRCH || IsOurs(id) || IsZombieOrGone(id) || !isVisitor)
            {
                // Gone, or it has executed another user's program.
                return null;
            }

            throw AttachDiagnosis.SeizeFailed(_platform, id, error);
        }

        if (!isVisitor)
        {
            // It has just executed a program of its own: it is let go at its next stop.
            _awaited[id] = (process, false);
            _ = _platform.Interrupt(id);
            return null;
        }

        TracedTask visitor = new(id, process) { IsVisitor = true, KnownMask = ProcStatus.TryRead(_platform, id, out ProcStatus? status, out _) ? status!.SigBlk : 0 };
        Add(visitor);
        return visitor;
    }

    /// <summary>Whether a child shares the memory of its maker; where the kernel cannot say, whether it is the youngest, and the maker waits as one does for a vfork child.</summary>
    private bool IsVisitor(ProcessHandle process, TracedTask maker, int id, bool isYoungest) =>
        _platform.SharesAddressSpace(id, maker.ThreadId) ?? (isYoungest && IsInFork(process, maker));

    private bool IsInFork(ProcessHandle process, TracedTask maker) =>
        ProcSystemCall.TryRead(_platform, maker.IsVisitor ? maker.ThreadId : process.ProcessId, maker.ThreadId, out ProcSystemCall call, out _)
        && !call.IsRunning && IsFork(process.Architecture, call.Number);

    private bool IsOurs(int id) =>
        ProcStatus.TryRead(_platform, id, out ProcStatus? status, out _) && status!.TracerPid != 0
        && (status.TracerPid == _threadId || status.TracerPid == _platform.CurrentProcessId);

    private bool IsZombieOrGone(int id) => ProcStatus.TryRead(_platform, id, out ProcStatus? status, out Errno error)
        ? status!.State is 'Z' or 'X'
        : error is Errno.ENOENT or Errno.ESRCH;

    /// <summary>Without a signal to be woken by, this thread would sleep through all that is asked of it.</summary>
    private void RequireWakeSignal()
    {
        Errno error = _platform.WakeThread(_threadId);
        if (error is not Errno.None and not Errno.EAGAIN)
        {
            throw new FastTrapException(
                FastTrapError.KernelRefused,
                $"The control thread cannot be woken ({error}): this program has handlers for all real-time signals. Leave one of them alone.", errorNumber: (int)error);
        }
    }

    /// <summary>Starts a program; it stands where it is wanted, held.</summary>
    public ProcessHandle Create(SpawnRequest request, CreateStop stopAt, IProcessObserver? observer = null, bool followsChildren = false)
    {
        RequireWakeSignal();
        Errno error = _platform.SpawnSeized(request, _options, out int processId);
        if (error != Errno.None)
        {
            throw AttachDiagnosis.CannotStart(request.Path, error);
        }

        ProcessHandle process;
        try
        {
            process = new ProcessHandle(_platform, this, processId, AttachDiagnosis.ReadArchitecture(_platform, processId), wasCreated: true)
            {
                Observer = observer,
                FollowsChildren = followsChildren,
            };
        }
        catch (FastTrapException)
        {
            _platform.Kill(processId, Signal.SIGKILL);
            while (_platform.Wait(processId, block: true, out WaitStatus status) is var id
                && (id == -(int)Errno.EINTR || (id == processId && status.Stopped)))
            {
                // Until the end of it is reported.
            }

            throw;
        }

        TracedTask leader = new(processId, process) { State = TaskState.Stopped };
        process.Tasks.Add(processId, leader);
        Start(process);
        HoldAtStart(leader);
        if (stopAt != CreateStop.Exec)
        {
            RunTo(process, stopAt);
        }

        Log.Created(_logger, processId, request.Path);
        return process;
    }

    /// <summary>Holds a thread of a created process until the process is to run.</summary>
    private static void HoldAtStart(TracedTask task)
    {
        task.Hold();
        task.Process.HeldAtStart = task;
    }

    private void RunTo(ProcessHandle process, CreateStop stopAt)
    {
        bool reached = false;
        void Hold(TracedTask task)
        {
            HoldAtStart(task);
            reached = true;
        }

        Rendezvous rendezvous = new(process, stopAt, Hold);
        rendezvous.Begin();

        // A program may execute another one before it gets there (a constructor, a loader): then that one is meant.
        process.ExecutedBeforeStart = rendezvous.Begin;
        ResumeHeld(process);
        while (!reached && !process.IsOver)
        {
            // A constructor may wait for a child, and that for its release by the observer.
            RunQueued();
            Step(block: !HasWork);
        }

        process.ExecutedBeforeStart = null;
        if (!reached)
        {
            throw new FastTrapException(
                FastTrapError.CannotStart,
                $"The program ended before {Describe(stopAt)} ({process.Completion.Result}). Run it by itself: a library may be missing.", process.ProcessId);
        }
    }

    private static string Describe(CreateStop stop) => stop switch
    {
        CreateStop.PreInit => "its libraries were loaded",
        CreateStop.PostInit => "its libraries were initialised",
        CreateStop.Main => "its main",
        _ => "its entry point",
    };

    /// <summary>Lets a created process go on from where it was to stand; what others hold stays held. Does nothing the second time.</summary>
    public void ResumeHeld(ProcessHandle process)
    {
        if (process.HeldAtStart is { } task)
        {
            process.HeldAtStart = null;
            Release(task);
        }
    }
}
