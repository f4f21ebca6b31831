using FastTrap.Control;
using FastTrap.Probes;

namespace FastTrap.Engine;

/// <summary>What belongs to one program image of a process: an exec makes a new one. Thread-safe.</summary>
internal sealed class ProcessImage
{
    private readonly TracerCore _core;
    private readonly ProcessHandle _handle;
    private readonly RankedLock _gate = new(LockRank.ControlProcess);
    private Proc? _proc;
    private volatile bool _isRetired;

    public ProcessImage(TracerCore core, ProcessHandle handle)
    {
        _core = core;
        _handle = handle;
        Matcher = new ProbeMatcher(core.Platform, handle.ProcessId, handle.Architecture, core.Options.MaximumTracepoints, ReadMemory);
        Dof = new DofProbes(core, handle.ProcessId, Matcher, ReadMemory);
    }

    public ProbeMatcher Matcher { get; }

    /// <summary>The probes that the program describes itself.</summary>
    public DofProbes Dof { get; }

    /// <summary>Whether the process executes another program now, has ended, or was let go.</summary>
    public bool IsOver => _isRetired;

    /// <summary>The engine's side of the process, made when it is first needed, and given to control by the first enabling.</summary>
    /// <exception cref="FastTrapException">The image is over.</exception>
    public Proc GetProc()
    {
        using (_gate.Enter())
        {
            if (_isRetired)
            {
                throw _handle.IsOver ? _handle.MakeRefusal() : new FastTrapException(
                    FastTrapError.ProcessEnded, $"Process {_handle.ProcessId} ended, or executed another program; in that case enable again.", _handle.ProcessId);
            }

            return _proc ??= new Proc(_core, _handle);
        }
    }

    /// <summary>
    /// The address space is gone, by an exec, an exit or a detach: with it go the providers, and the engine's side of the process. Control thread, or after its end.
    /// </summary>
    public void Retire()
    {
        Proc? proc;
        using (_gate.Enter())
        {
            _isRetired = true;
            proc = _proc;
        }

        proc?.OnAddressSpaceGone();
    }

    /// <summary>The engine's side of the process, if there is one.</summary>
    public Proc? ProcOrNull => Volatile.Read(ref _proc);

    /// <summary>See <see cref="Proc.RestoreBytes"/>.</summary>
    public void RestoreBytes() => Volatile.Read(ref _proc)?.RestoreBytes();

    /// <summary>Reads target memory without our traps. Returns bytes read, or a negative errno.</summary>
    public int ReadMemory(ulong address, Span<byte> buffer)
    {
        if (Volatile.Read(ref _proc) is { } proc)
        {
            return proc.ReadMemory(address, buffer);
        }

        while (true)
        {
            ControlBreakpoint[] breakpoints = _handle.ControlBreakpoints.Current;
            int read = _core.Platform.ReadMemory(_handle.ProcessId, address, buffer);
            Interlocked.MemoryBarrier();
            if (ReferenceEquals(breakpoints, _handle.ControlBreakpoints.Current))
            {
                ControlBreakpointTable.Unmask(breakpoints, address, read > 0 ? buffer[..read] : default);
                return read;
            }
        }
    }
}
