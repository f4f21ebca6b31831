using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>
/// Runs a created program from its exec to where its creator wants it to wait.
/// </summary>
/// <remarks>
/// Control thread only. Pre-init is the linker's first report that its list is complete: everything is mapped, and relocated, and no constructor has run.
/// Post-init is the program's entry point, where glibc's linker has run the constructors of the libraries; with musl, whose start-up code runs them after
/// the entry point, it is main. main is found by its symbol, or else as the first argument of __libc_start_main.
/// Source: dt_proc.c, dt_proc_attach, dt_proc_bpmain, dt_proc_rdevent, dt_proc_stop.
/// </remarks>
internal sealed class Rendezvous(ProcessHandle process, CreateStop stop, Action<TracedTask> reached)
{
    private readonly List<ControlBreakpoint> _starts = [];
    private LinkerLocation _location = null!;
    private LinkerWatch? _watch;

    private bool HasLinker => _location.StateFunction != 0;

    /// <summary>To be called at the exec stop of each program that the process executes on the way.</summary>
    /// <exception cref="FastTrapException">There is no such place in the program.</exception>
    public void Begin()
    {
        _starts.Clear();
        _location = LinkerLocation.Find(process.Platform, process.ProcessId);
        if (_location.Auxv.Entry == 0)
        {
            throw new FastTrapException(FastTrapError.KernelRefused, $"The entry point of process {process.ProcessId} could not be read.", process.ProcessId);
        }

        CreateStop place = stop == CreateStop.PostInit && _location.IsMusl ? CreateStop.Main : stop;
        if (place == CreateStop.Main)
        {
            BeginMain();
        }
        else if (place == CreateStop.PreInit && (HasLinker || _location.Auxv.Base != 0))
        {
            WaitForLinker(reached);
        }
        else if (_location.IsLinkerStarted)
        {
            WaitForLinker(_ => BreakAt(ReadProgramEntry(), reached));
        }
        else
        {
            BreakAt(_location.Auxv.Entry, reached);
        }
    }

    private void BeginMain()
    {
        ulong main = _location.IsLinkerStarted ? 0 : MainFunction.Find(process.Platform, process.ProcessId, _location.Auxv.Entry);
        if (main != 0)
        {
            BreakAt(main, reached);
        }
        else if (HasLinker)
        {
            WaitForLinker(_ => FindMainWithLibraries());
        }
        else
        {
            throw NoMain("it is static, and stripped or written in another language");
        }
    }

    /// <summary>All libraries are there: the C library's start gets main as its first argument.</summary>
    private void FindMainWithLibraries()
    {
        LinkedObject program = _watch!.Objects.First();
        ulong main = _location.IsLinkerStarted ? MainFunction.Find(process.Platform, process.ProcessId, program.DynamicAddress) : 0;
        if (main != 0)
        {
            BreakAt(main, reached);
            return;
        }

        TargetReader reader = new(process.Platform, process.ProcessId);
        foreach (LinkedObject linked in _watch.Objects)
        {
            IReadOnlyList<ulong> starts = LoadedElf.TryRead(reader, linked.Start, out LoadedElf elf) ? elf.Find("__libc_start_main") : [];
            foreach (ulong start in starts)
            {
                BreakAt(start, OnLibraryStart);
                _starts.Add(process.ControlBreakpoints.Find(start)!);
            }
        }

        if (_starts.Count == 0)
        {
            throw NoMain("it has no symbol of that name, and none of its libraries has __libc_start_main");
        }
    }

    private void OnLibraryStart(TracedTask task)
    {
        foreach (ControlBreakpoint start in _starts)
        {
            process.ControlBreakpoints.Remove(start);
        }

        RegisterSet registers = new(process.Architecture);
        Errno error = process.Platform.GetRegisters(task.ThreadId, ref registers);
        if (error == Errno.None)
        {
            BreakAt(process.Architecture == Architecture.X64 ? registers[X64Register.Rdi] : registers[Arm64Register.X0], reached);
        }
    }

    private void WaitForLinker(Action<TracedTask> onLoaded)
    {
        _watch = new LinkerWatch(process, OnConsistent, _location);
        _watch.Start();
        if (!_watch.IsWatching)
        {
            throw new FastTrapException(
                FastTrapError.StopUnavailable,
                $"Process {process.ProcessId} cannot be stopped when its libraries are loaded: {_watch.Problem ?? "its linker is unknown"}. Stop it at its exec or its entry.", process.ProcessId);
        }

        void OnConsistent(TracedTask task)
        {
            // glibc reports once before it begins, and auditing libraries are loaded in a namespace of their own before that; musl reports once only.
            if (_watch!.HasSeenAdding || _location.IsMusl)
            {
                _watch.Stop();
                onLoaded(task);
            }
        }
    }

    /// <summary>Of a program that was started by naming its linker: its own header tells.</summary>
    private ulong ReadProgramEntry()
    {
        LinkedObject program = _watch!.Objects.First();
        TargetReader reader = new(process.Platform, process.ProcessId);
        return LoadedElf.TryRead(reader, program.Start, out LoadedElf elf) && elf.Entry != 0
            ? elf.Entry
            : throw new FastTrapException(
                FastTrapError.StopUnavailable, $"The entry point of '{program.Path}', which was started by naming its linker, could not be read. Stop it at its exec.", process.ProcessId);
    }

    private void BreakAt(ulong address, Action<TracedTask> onHit)
    {
        Errno error = process.ControlBreakpoints.Set(address, isStanding: false, onHit);
        if (error != Errno.None)
        {
            throw new FastTrapException(
                FastTrapError.MemoryAccess, $"No breakpoint could be set at {address:x} of process {process.ProcessId} ({error}). Stop it at its exec.",
                process.ProcessId, (int)error, address);
        }
    }

    private FastTrapException NoMain(string why) => new(
        FastTrapError.StopUnavailable, $"main of process {process.ProcessId} cannot be found: {why}. Stop it at its entry (CreateStop.Entry), or use a build with symbols.", process.ProcessId);
}
