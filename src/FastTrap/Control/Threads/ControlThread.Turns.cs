using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Takes reports, and gives each thread of the targets its turn.</summary>
/// <remarks>
/// The kernel looks for a report in the order of its own list, where the thread that was attached last comes first. A few threads which hit probes without end
/// would be answered for ever, and those behind them never. So after some reports the threads that had none are asked by name.
/// </remarks>
internal sealed partial class ControlThread
{
    /// <summary>Reports for each thread between two rounds: enough that asking those which merely sleep costs little.</summary>
    private const int ReportsPerTask = 2;

    private const int LeastReports = 16;

    private readonly List<int> _waiting = [];
    private int _round;
    private int _reportsInRound;
    private bool _takesTurns;

    /// <summary>The thread of whose trap <c>_registers</c> and this are, before its report was taken.</summary>
    private TracedTask? _seenAhead;
    private SignalInfo _seenInfo;

    /// <summary>To be called after each report that was handled.</summary>
    private void TakeTurns()
    {
        if (_takesTurns || ++_reportsInRound < LeastReports + (ReportsPerTask * _tasks.Count))
        {
            return;
        }

        _takesTurns = true;
        _reportsInRound = 0;
        foreach ((int id, TracedTask task) in _tasks)
        {
            if (task.LastRound != _round && task.State != TaskState.Stopped)
            {
                _waiting.Add(id);
            }
        }

        // New threads that were announced and stand at their first stop: one that was made later is answered before them.
        foreach ((int id, _) in _awaited)
        {
            _waiting.Add(id);
        }

        _round++;
        try
        {
            foreach (int id in _waiting)
            {
                if (Take(id, block: false, out WaitStatus status) == id)
                {
                    OnReport(id, status);
                }
            }
        }
        finally
        {
            _waiting.Clear();
            _takesTurns = false;
        }
    }

    /// <summary>
    /// The next report of a thread, or of any (-1). With it the kernel forgets the signal that a thread has stopped for: were the tracer killed then, a thread would go on behind the trap it has executed. So one that a guard would lead is led before.
    /// </summary>
    private int Take(int threadId, bool block, out WaitStatus status)
    {
        if (LeadingProcesses == 0)
        {
            return _platform.Wait(threadId, block, out status);
        }

        int id = _platform.Peek(threadId, block, out status);
        if (id <= 0)
        {
            return id;
        }

        if (IsTrap(status) && _tasks.TryGetValue(id, out TracedTask? led))
        {
            LeadAhead(led);
        }
        else
        {
            led = null;
        }

        // It may have been killed meanwhile: its end is another report, and after an exec its id is another program's.
        id = _platform.Wait(id, block: false, out status);
        if (led is not null && (id <= 0 || !IsTrap(status)))
        {
            led.LedFrom = 0;
            _seenAhead = null;
        }

        return id == -(int)Errno.ECHILD ? 0 : id;
    }

    private static bool IsTrap(WaitStatus status) => status is { Stopped: true, IsSystemCallStop: false, Event: PtraceEvent.None, StopSignal: Signal.SIGTRAP };

    /// <summary>What <see cref="LeadAhead"/> has seen a moment ago need not be asked again.</summary>
    private bool TryTakeSeen(TracedTask task, out SignalInfo info)
    {
        info = _seenInfo;
        bool isSeen = _seenAhead == task;
        _seenAhead = null;
        return isSeen;
    }

    /// <summary>Before the report of a trap is taken: puts the thread to where the guard would lead it. x86-64.</summary>
    private void LeadAhead(TracedTask task)
    {
        _seenAhead = null;
        ProcessHandle process = task.Process;
        if (process.Architecture != Architecture.X64 || process.Handler is not { } handler)
        {
            return;
        }

        if (_registers.Architecture != process.Architecture)
        {
            _registers = new RegisterSet(process.Architecture);
        }

        if (_platform.GetRegisters(task.ThreadId, ref _registers) != Errno.None || _platform.GetSignalInfo(task.ThreadId, out _seenInfo) != Errno.None)
        {
            return;
        }

        _seenAhead = task;
        ulong trapAddress = _registers.ProgramCounter - 1;
        if (process.IsTrapInstruction(_seenInfo) && handler.FindWayFrom(trapAddress) is var way and not 0)
        {
            // Were the tracer killed from here on, before it has taken the report, the guard goes by the mark.
            SignalInfo marked = _seenInfo;
            marked.si_errno = SignalInfo.LedMark;
            marked.si_addr = trapAddress;
            _registers.ProgramCounter = way;
            if (_platform.SetSignalInfo(task.ThreadId, marked) == Errno.None && _platform.SetRegisters(task.ThreadId, _registers) == Errno.None)
            {
                task.LedFrom = trapAddress;
            }
            else
            {
                _seenAhead = null;
            }
        }
    }
}
