using FastTrap.Isa;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>Serving the library's own breakpoints, and watching the run-time linker by one.</summary>
/// <remarks>Source: dt_proc.c, dt_proc_bpmatch, dt_proc_attach.</remarks>
internal sealed partial class ControlThread
{
    private TaskMemory? _taskMemory;

    /// <summary>
    /// Begins to watch the run-time linker of the process, or gives the watch there is. Libraries that are loaded already are in its list, and not announced.
    /// Nobody is stopped for it, unless the program has an action of its own for SIGTRAP.
    /// </summary>
    /// <param name="process">The process.</param>
    /// <param name="keeps">Whether it stays though nothing is enabled, and is renewed at an exec.</param>
    public LinkerWatch WatchLinker(ProcessHandle process, bool keeps = true)
    {
        process.KeepsLinkerWatch |= keeps;
        if (process.Linker is null)
        {
            PrepareForTraps(process);
            process.Linker = new LinkerWatch(process);
            StartWatch(process.Linker);
        }

        return process.Linker;
    }

    /// <summary>Ends the watch over the run-time linker, unless somebody keeps it.</summary>
    public static void UnwatchLinker(ProcessHandle process)
    {
        if (!process.KeepsLinkerWatch && process.Linker is { } watch)
        {
            process.Linker = null;
            watch.Stop();
        }
    }

    private void StartWatch(LinkerWatch watch)
    {
        watch.Start();
        if (watch.Problem is { } problem)
        {
            Log.LinkerNotWatched(_logger, watch.Process.ProcessId, problem);
        }
    }

    /// <summary>After an exec: the new program has a linker of its own.</summary>
    private void RenewLinkerWatch(ProcessHandle process)
    {
        if (process.Linker is not null)
        {
            process.Linker = process.KeepsLinkerWatch ? new LinkerWatch(process) : null;
            if (process.Linker is { } watch)
            {
                StartWatch(watch);
            }
        }
    }

    /// <summary>A thread ran into a control breakpoint. False: the stop goes on to the handler, whose trap it is as well, or whose business a sent signal is.</summary>
    private bool OnControlBreakpoint(ProcessHandle process, TracedTask task, ControlBreakpoint breakpoint)
    {
        if (!task.StoppedByTrapInstruction)
        {
            return false;
        }

        // Whoever is told may use the field.
        RegisterSet registers = _registers;
        RegisterSet registersAtStop = _registersAtStop;
        bool isPassed = task.PassedBreakpoint == breakpoint.Address && task.PassedStackPointer == registers.StackPointer;
        task.PassedBreakpoint = 0;
        if (!isPassed)
        {
            breakpoint.Hits++;
            if (!breakpoint.IsStanding)
            {
                Remove(process, breakpoint);
            }

            // Whoever holds it and releases it in there does not resume it: it is resumed here.
            task.Hold();
            breakpoint.OnHit(task);
            task.Holds--;
        }

        if (task.IsHeld)
        {
            if (process.ControlBreakpoints.Find(breakpoint.Address) == breakpoint)
            {
                task.PassedBreakpoint = breakpoint.Address;
                task.PassedStackPointer = registers.StackPointer;
            }

            GoOnAt(task, ref registers, breakpoint.Address);
            return true;
        }

        if (process.Handler?.IsTrapAt(breakpoint.Address) == true)
        {
            _registers = registers;
            _registersAtStop = registersAtStop;
            return false;
        }

        _taskMemory ??= new TaskMemory(_platform);
        _taskMemory.ThreadId = task.ThreadId;
        if (breakpoint.IsStanding && breakpoint.TryPass(InstructionSet.For(process.Architecture), _taskMemory, ref registers))
        {
            GoOnAt(task, ref registers, registers.ProgramCounter);
            return true;
        }

        if (breakpoint.IsStanding)
        {
            // Its stack is not to be read: the thread executes the instruction itself, with whatever comes of it.
            Remove(process, breakpoint);
            Log.BreakpointGivenUp(_logger, process.ProcessId, breakpoint.Address);
        }

        GoOnAt(task, ref registers, breakpoint.Address);
        return true;
    }

    private void GoOnAt(TracedTask task, ref RegisterSet registers, ulong address)
    {
        registers.ProgramCounter = address;
        _platform.SetRegisters(task.ThreadId, registers);
        RestoreTrapMask(task);
        task.ResumedWith = registers;
        Resume(task, 0);
    }

    private void Remove(ProcessHandle process, ControlBreakpoint breakpoint)
    {
        Errno error = process.ControlBreakpoints.Remove(breakpoint);
        if (error is not Errno.None and not Errno.ESRCH)
        {
            Log.TextNotRestored(_logger, process.ProcessId, breakpoint.Address, (int)error);
        }
    }
}
