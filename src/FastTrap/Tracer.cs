using System.Runtime.Versioning;
using FastTrap.Control;
using FastTrap.Control.Cache;
using FastTrap.Engine;
using FastTrap.Native;
using FastTrap.Probes;

namespace FastTrap;

/// <summary>
/// The engine: attaches to processes, or creates them, and holds what they share. Disposing it detaches from all of them.
/// </summary>
/// <remarks>
/// Thread-safe. One operating-system thread for each process makes all requests to the kernel. If the tracer ends by SIGTERM, SIGINT, SIGHUP, SIGQUIT, an
/// unhandled exception or a normal exit, targets are released first; SIGKILL gives no chance for that (see the limits page). A program that handles
/// such a signal itself registers its handler after it has made the tracer, for .NET asks the last one first.
/// Source: fasttrap.c, fasttrap_load and fasttrap_unload.
/// </remarks>
[SupportedOSPlatform("linux")]
public sealed partial class Tracer : IAsyncDisposable
{
    private readonly TracerCore _core;
    private readonly Roster _roster = new();
    private readonly HandleCache<ProbeMatcher> _views;

    /// <summary>Makes a tracer. Nothing is touched until a process is attached.</summary>
    /// <param name="options">Settings, or null for the defaults.</param>
    /// <exception cref="PlatformNotSupportedException">This is not Linux.</exception>
    public Tracer(TracerOptions? options = null)
        : this(options, LinuxPlatformOrThrow())
    {
    }

    internal Tracer(TracerOptions? options, IPlatform platform)
    {
        _core = new TracerCore(platform, options ?? new TracerOptions());
        _views = new HandleCache<ProbeMatcher>(_core.Options.MaximumIdleViews);
        EmergencyRelease.Install();
    }

    internal TracerCore Core => _core;

    /// <summary>The processes attached or created and not disposed yet.</summary>
    public IReadOnlyList<TracedProcess> Processes => _roster.Processes;

    /// <summary>
    /// Attaches to a running process. None of its threads is stopped for that. A process that this tracer has attached to, or created, already is returned again:
    /// it is released when it was disposed as often.
    /// </summary>
    /// <param name="processId">The process's id (not a thread's).</param>
    /// <param name="options">Settings, or null for the defaults.</param>
    /// <param name="cancellationToken">Cancels before the attach; it does not interrupt one.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="processId"/> is not positive.</exception>
    /// <exception cref="FastTrapException">It cannot be attached; <see cref="FastTrapException.Error"/> and the message say why.</exception>
    /// <exception cref="ObjectDisposedException">The tracer was disposed.</exception>
    public async Task<TracedProcess> AttachAsync(int processId, AttachOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(processId);
        cancellationToken.ThrowIfCancellationRequested();
        options ??= new AttachOptions();
        TracedProcess process = await GrabAsync(processId, options).ConfigureAwait(false);
        if (options.IncludeDescendants)
        {
            await AttachDescendantsAsync(process, options, cancellationToken).ConfigureAwait(false);
        }

        return process;
    }

    /// <summary>
    /// Opens a process for reading: it is not traced, and may be traced by others. The views of one process share what was learned of it, which is kept
    /// for a while after the last one is disposed.
    /// </summary>
    /// <param name="processId">The process's id (not a thread's).</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="processId"/> is not positive.</exception>
    /// <exception cref="FastTrapException">It cannot be read; <see cref="FastTrapException.Error"/> and the message say why.</exception>
    /// <exception cref="ObjectDisposedException">The tracer was disposed.</exception>
    public ProcessView OpenReadOnly(int processId)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(processId);
        ObjectDisposedException.ThrowIf(_roster.IsClosed, this);
        if (_roster.Find(processId) is { Completion.IsCompleted: false } process)
        {
            return ProcessView.Of(_core.Platform, process);
        }

        return ProcessView.Open(_core.Platform, _views, _core.Options.MaximumTracepoints, processId);
    }

    /// <summary>Starts a program, stopped where <see cref="CreateOptions.StopAt"/> says, until <see cref="TracedProcess.ResumeAsync"/>.</summary>
    /// <param name="path">The program: a path with a <c>/</c>, or a name to look for in PATH.</param>
    /// <param name="arguments">Its arguments, without its own name; null for none.</param>
    /// <param name="options">Settings, or null for the defaults.</param>
    /// <param name="cancellationToken">Cancels before the start; it does not interrupt one.</param>
    /// <exception cref="ArgumentException"><paramref name="path"/> is empty, or a text holds a zero character.</exception>
    /// <exception cref="FastTrapException">It cannot be started; <see cref="FastTrapException.Error"/> and the message say why.</exception>
    /// <exception cref="ObjectDisposedException">The tracer was disposed.</exception>
    public async Task<TracedProcess> CreateAsync(
        string path, IReadOnlyList<string>? arguments = null, CreateOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        cancellationToken.ThrowIfCancellationRequested();
        options ??= new CreateOptions();
        SpawnRequest request = Control.ProgramSearch.MakeRequest(_core.Platform, path, arguments ?? [], options);
        return await StartAsync((thread, observer) => thread.Create(request, options.StopAt, observer, options.FollowChildren), options.KillOnDispose).ConfigureAwait(false);
    }

    /// <summary>
    /// Lists the probes of an executable or library file which match a description, in the order of addresses. The provider is <c>pid</c>; addresses are the file's.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="description">What to list; its provider and module parts are patterns as always.</param>
    /// <exception cref="FastTrapException">The file cannot be read, or is no ELF file of a supported architecture.</exception>
    public static IReadOnlyList<ProbeInfo> ListFile(string path, ProbeDescription description)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(description);
        return Probes.FileProbes.List(LinuxPlatformOrThrow(), path, description);
    }

    /// <summary>
    /// Detaches from all processes; those that were created with <see cref="CreateOptions.KillOnDispose"/> are killed. Takes <see cref="TracerOptions.DisposeTimeout"/> at most.
    /// </summary>
    public async ValueTask DisposeAsync()
    {
        _roster.Close();
        List<TracedProcess> all = [];
        await DisposeEngineAsync(ReleaseAllAsync(all), all).ConfigureAwait(false);
        _views.Clear();
        await Task.WhenAll(_roster.Standing.Select(s => s.DisposeAsync().AsTask())).ConfigureAwait(false);
        _roster.CompleteSubscriptions();
    }

    /// <summary>Releases all processes, again and again, for children may be born meanwhile.</summary>
    private async Task ReleaseAllAsync(List<TracedProcess> released)
    {
        while (_roster.Processes is { Count: not 0 } processes)
        {
            lock (released)
            {
                released.AddRange(processes.Except(released));
            }

            // All at once: then no sleeping thread of a process tree is disturbed.
            foreach (TracedProcess process in processes)
            {
                process.Handle.AnnounceRelease();
            }

            await Task.WhenAll(processes.Select(p => p.CloseAsync().AsTask())).ConfigureAwait(false);
        }

    }

    private static LinuxPlatform LinuxPlatformOrThrow() => OperatingSystem.IsLinux()
        ? LinuxPlatform.Instance
        : throw new PlatformNotSupportedException("FastTrap traces Linux processes and runs on Linux only.");
}
