using FastTrap.Control;
using FastTrap.Probes;

namespace FastTrap.Engine;

/// <summary>What belongs to one program image of a process: an exec makes a new one. Thread-safe.</summary>
internal sealed class ProcessImage
{
    private readonly TracerCore _core;
    private readonly ProcessHandle _handle;
    private readonly object _gate = new();
    private Proc? _proc;

    public ProcessImage(TracerCore core, ProcessHandle handle)
    {
        _core = core;
        _handle = handle;
        Matcher = new ProbeMatcher(core.Platform, handle.ProcessId, handle.Architecture, core.Options.MaximumTracepoints, ReadMemory);
    }

    public ProbeMatcher Matcher { get; }

    /// <summary>The engine's side of the process, made when it is first needed, and given to control by the first enabling.</summary>
    public Proc GetProc()
    {
        lock (_gate)
        {
            if (_proc is null)
            {
                _proc = new Proc(_core, _handle);
            }

            return _proc;
        }
    }

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
