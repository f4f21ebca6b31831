using FastTrap.Control;
using FastTrap.Control.Cache;
using FastTrap.Native;
using FastTrap.Probes;

namespace FastTrap;

/// <summary>
/// A look at a process that is not traced: its functions, addresses and memory can be read, nothing can be enabled, and the process notices nothing.
/// </summary>
/// <remarks>
/// Thread-safe. What was learned of the process is shared by all views of it and kept for the next one (<see cref="TracerOptions.MaximumIdleViews"/>). A view goes
/// stale when the tracer that opened it attaches to the process, which may then hold the traps of probes: read through the <see cref="TracedProcess"/>; and when
/// the process has ended. A view of a process that this tracer has attached to already reads through that, until it is released.
/// Source: dt_proc.c, dt_proc_grab of read-only handles.
/// </remarks>
public sealed class ProcessView : IDisposable
{
    private readonly IPlatform _platform;
    private readonly HandleCache<ProbeMatcher>? _cache;
    private readonly CachedHandle<ProbeMatcher>? _handle;
    private readonly TracedProcess? _process;
    private int _isDisposed;

    private ProcessView(IPlatform platform, HandleCache<ProbeMatcher>? cache, CachedHandle<ProbeMatcher>? handle, TracedProcess? process)
    {
        _platform = platform;
        _cache = cache;
        _handle = handle;
        _process = process;
    }

    /// <summary>The process's id.</summary>
    public int ProcessId => _handle?.ProcessId ?? _process!.ProcessId;

    /// <summary>Whether the view is of no use any more: the process ended, its id is another's, or it was attached to since, or no longer is.</summary>
    public bool IsStale => _handle is null ? _process!.Completion.IsCompleted : _handle.IsStale || !IsStillTheSame(_handle);

    /// <summary>Lists the probes that match a description, as <see cref="TracedProcess.ListAsync"/> does.</summary>
    /// <exception cref="FastTrapException">The view is stale.</exception>
    /// <exception cref="ObjectDisposedException">The view was disposed.</exception>
    public Task<IReadOnlyList<ProbeInfo>> ListAsync(ProbeDescription description, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(description);
        RequireFresh();
        return _handle is null
            ? _process!.ListAsync(description, cancellationToken)
            : Task.Run<IReadOnlyList<ProbeInfo>>(
                () =>
                {
                    List<ProbeInfo> probes = _handle.Value.List(description, cancellationToken);
                    RequireFresh();
                    return probes;
                },
                cancellationToken);
    }

    /// <summary>Reads memory. Returns the bytes read, fewer where memory ends, 0 if none.</summary>
    /// <exception cref="FastTrapException">The view is stale.</exception>
    /// <exception cref="ObjectDisposedException">The view was disposed.</exception>
    public int ReadMemory(ulong address, Span<byte> buffer)
    {
        RequireFresh();
        if (_handle is null)
        {
            return _process!.ReadMemory(address, buffer);
        }

        int read = _platform.ReadMemory(ProcessId, address, buffer);

        // What was read is this process's if it is still there now.
        RequireFresh();
        return Math.Max(0, read);
    }

    /// <summary>Names the function an address belongs to; false if it is in no module.</summary>
    /// <exception cref="FastTrapException">The view is stale.</exception>
    /// <exception cref="ObjectDisposedException">The view was disposed.</exception>
    public bool TryResolve(ulong address, out CodeLocation location)
    {
        RequireFresh();
        return _handle is null ? _process!.TryResolve(address, out location) : _handle.Value.TryResolve(address, out location);
    }

    /// <summary>Gives the handle back; the process is not concerned.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) == 0 && _handle is not null)
        {
            _cache!.Release(_handle);
        }
    }

    internal static ProcessView Of(IPlatform platform, TracedProcess process) => new(platform, null, null, process);

    /// <summary>Opens a view, by a handle that is there or a new one.</summary>
    internal static ProcessView Open(IPlatform platform, HandleCache<ProbeMatcher> cache, int limit, int processId)
    {
        System.Runtime.InteropServices.Architecture architecture = AttachDiagnosis.Inspect(platform, processId, isReadOnly: true);
        if (!ProcStat.TryRead(platform, processId, out ProcStat stat, out Errno error))
        {
            throw error is Errno.ENOENT or Errno.ESRCH
                ? AttachDiagnosis.NoSuchProcess(processId)
                : new FastTrapException(FastTrapError.KernelRefused, $"Process {processId} cannot be looked at ({error}).", processId, (int)error);
        }

        CachedHandle<ProbeMatcher> handle = cache.Find(processId, stat.StartTime) ?? cache.Add(
            processId,
            stat.StartTime,
            new ProbeMatcher(platform, processId, architecture, limit, (address, buffer) => platform.ReadMemory(processId, address, buffer)));
        return new ProcessView(platform, cache, handle, null);
    }

    private void RequireFresh()
    {
        ObjectDisposedException.ThrowIf(Volatile.Read(ref _isDisposed) != 0, this);
        if (IsStale)
        {
            throw new FastTrapException(
                FastTrapError.Stale, $"The view of process {ProcessId} is stale: the process ended, or was attached to or released since. Open another one.", ProcessId);
        }
    }

    private bool IsStillTheSame(CachedHandle<ProbeMatcher> handle)
    {
        if (ProcStat.TryRead(_platform, handle.ProcessId, out ProcStat stat, out Errno error))
        {
            if (stat.StartTime == handle.StartTime && !stat.IsZombie)
            {
                return true;
            }
        }
        else if (error is not (Errno.ENOENT or Errno.ESRCH))
        {
            // No descriptor is left to look with.
            return true;
        }

        if (!handle.IsStale)
        {
            _cache!.MakeStale(handle.ProcessId);
        }

        return false;
    }
}
