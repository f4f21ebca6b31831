using System.Diagnostics;
using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>How threads and processes come and go: clone, fork, vfork, exec, exit.</summary>
internal sealed partial class ControlThread
{
    /// <summary>New tasks whose parent's event has come and whose own first stop has not; and the other way round.</summary>
    private readonly HashSet<int> _awaited = [];
    private readonly HashSet<int> _early = [];

    /// <summary>
    /// A thread we have not seen: a new thread of the target, or a process it forked. The kernel attached it for us; its own first stop may come
    /// before its parent's event, so it is told by what it is, not by the event. Returns null when it was let go.
    /// </summary>
    private TracedTask? Adopt(ProcessHandle process, int id)
    {
        if (!_awaited.Remove(id))
        {
            _early.Add(id);
        }

        // Asked without a file: a tracer that has run out of descriptors must not leave a new thread standing.
        bool isThread = _platform.SignalThread(process.ProcessId, id, 0) is Errno.None or Errno.EPERM;
        if (!isThread && !(_platform.SharesAddressSpace(id, AnyTask(process)) ?? process.Handler?.SharesMemory(id) ?? false))
        {
            ReleaseForkChild(process, id);
            return null;
        }

        TracedTask task = new(id, process)
        {
            IsVisitor = !isThread,
            KnownMask = _platform.GetSignalMask(id, out ulong mask) == Errno.None ? mask : 0,
        };
        process.Tasks.Add(id, task);
        return task;
    }

    /// <summary>Notes whom a fork, vfork or clone event announces: a detach must not overlook a child that has our traps.</summary>
    private void Expect(TracedTask parent)
    {
        if (_platform.GetEventMessage(parent.ThreadId, out ulong message) == Errno.None && !_early.Remove((int)message))
        {
            _awaited.Add((int)message);
        }
    }

    /// <summary>A thread that has the address space: a leader which has left its threads behind has none.</summary>
    private static int AnyTask(ProcessHandle process)
    {
        foreach ((int id, TracedTask task) in process.Tasks)
        {
            if (!task.IsVisitor && id != process.ProcessId)
            {
                return id;
            }
        }

        return process.ProcessId;
    }

    /// <summary>A fork child has its own copy of our traps: it gets clean text and goes.</summary>
    private void ReleaseForkChild(ProcessHandle process, int id)
    {
        _registers = new RegisterSet(process.Architecture);
        if (process.Handler is not null && _platform.GetRegisters(id, ref _registers) == Errno.None)
        {
            process.Handler.CleanForkChild(id, ref _registers, out bool modified);
            if (modified)
            {
                _platform.SetRegisters(id, _registers);
            }
        }

        _platform.Detach(id, 0);
    }

    private void OnTaskEnded(ProcessHandle process, TracedTask task, WaitStatus status)
    {
        process.Tasks.Remove(task.ThreadId);
        _stoppedSignal.Remove(task.ThreadId);
        if (task.ThreadId != process.ProcessId)
        {
            if (process.Tasks.Count == 0 && !process.IsOver)
            {
                OnNothingTraced();
            }

            return;
        }

        // The leader is reported last, and for the whole process.
        process.Handler?.OnAddressSpaceGone();
        process.Complete(status.Exited
            ? new ProcessExit(ProcessExitKind.Exited, status.ExitCode, 0)
            : new ProcessExit(ProcessExitKind.Killed, 0, status.TerminatingSignal));
        Log.ProcessEnded(_logger, process.ProcessId, status.Value);
    }

    /// <summary>The kernel says that we trace nobody, though we did not see the end.</summary>
    private void OnNothingTraced()
    {
        ProcessHandle process = Process!;
        process.Tasks.Clear();
        if (!process.IsOver)
        {
            process.Handler?.OnAddressSpaceGone();
            process.Complete(new ProcessExit(ProcessExitKind.Lost, 0, 0));
            Log.ProcessLost(_logger, process.ProcessId);
        }
    }

    private void OnExec(ProcessHandle process, TracedTask task)
    {
        if (task.IsVisitor)
        {
            // A vfork child that goes its own way: nothing of ours is in its new program.
            process.Tasks.Remove(task.ThreadId);
            _platform.Detach(task.ThreadId, 0);
            return;
        }

        foreach (int id in process.Tasks.Keys.Where(id => id != process.ProcessId).ToArray())
        {
            if (!process.Tasks[id].IsVisitor)
            {
                process.Tasks.Remove(id);
            }
        }

        process.Handler?.OnAddressSpaceGone();
        process.Handler = null;
        foreach (ControlBreakpoint breakpoint in process.ControlBreakpoints.Values)
        {
            breakpoint.Dispose();
        }

        process.ControlBreakpoints.Clear();
        process.SystemCallAddress = 0;
        process.TrapDisposition = null;
        if (!process.Tasks.TryGetValue(process.ProcessId, out TracedTask? leader))
        {
            leader = new TracedTask(process.ProcessId, process);
            process.Tasks.Add(process.ProcessId, leader);
        }

        leader.State = TaskState.Stopped;
        leader.HandlerState = null;
        if (leader.HeldSignal.si_signo != 0)
        {
            // Signals that wait, and the mask, outlive an exec.
            _platform.SetSignalMask(leader.ThreadId, leader.HeldMask);
            RemoteMap.SendAgain(process, leader, leader.HeldSignal);
            leader.HeldSignal = default;
        }

        process.Executed?.Invoke();
        Resume(leader, 0);
    }
}
