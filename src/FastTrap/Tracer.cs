using System.Runtime.Versioning;
using FastTrap.Control;
using FastTrap.Engine;
using FastTrap.Native;

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
public sealed class Tracer : IAsyncDisposable
{
    private readonly TracerCore _core;
    private readonly object _gate = new();
    private readonly List<TracedProcess> _processes = [];
    private bool _isDisposed;

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
        EmergencyRelease.Install();
    }

    /// <summary>The processes attached or created and not disposed yet.</summary>
    public IReadOnlyList<TracedProcess> Processes
    {
        get
        {
            lock (_gate)
            {
                return [.. _processes];
            }
        }
    }

    /// <summary>Attaches to a running process. None of its threads is stopped for that.</summary>
    /// <param name="processId">The process's id (not a thread's).</param>
    /// <param name="cancellationToken">Cancels before the attach; it does not interrupt one.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="processId"/> is not positive.</exception>
    /// <exception cref="FastTrapException">It cannot be attached; <see cref="FastTrapException.Error"/> and the message say why.</exception>
    /// <exception cref="ObjectDisposedException">The tracer was disposed.</exception>
    public async Task<TracedProcess> AttachAsync(int processId, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(processId);
        cancellationToken.ThrowIfCancellationRequested();
        return await StartAsync(thread => thread.Attach(processId), killOnDispose: false).ConfigureAwait(false);
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
        return await StartAsync(thread => thread.Create(request, options.StopAt), options.KillOnDispose).ConfigureAwait(false);
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

    /// <summary>Detaches from all processes; those that were created with <see cref="CreateOptions.KillOnDispose"/> are killed.</summary>
    public async ValueTask DisposeAsync()
    {
        TracedProcess[] processes;
        lock (_gate)
        {
            _isDisposed = true;
            processes = [.. _processes];
        }

        await Task.WhenAll(processes.Select(p => p.DisposeAsync().AsTask())).ConfigureAwait(false);
    }

    private void Forget(TracedProcess process)
    {
        lock (_gate)
        {
            _processes.Remove(process);
        }
    }

    private static LinuxPlatform LinuxPlatformOrThrow() => OperatingSystem.IsLinux()
        ? LinuxPlatform.Instance
        : throw new PlatformNotSupportedException("FastTrap traces Linux processes and runs on Linux only.");

    private async Task<TracedProcess> StartAsync(Func<ControlThread, ProcessHandle> start, bool killOnDispose)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        ControlThread thread = new(_core.Platform, _core.Options, _core.Logger);
        ProcessHandle handle;
        try
        {
            handle = await thread.InvokeAsync(() => start(thread)).ConfigureAwait(false);
        }
        catch
        {
            // Whatever was seized or started goes with the thread.
            await thread.AbandonAsync().ConfigureAwait(false);
            throw;
        }

        TracedProcess process = new(Forget, _core, handle, killOnDispose);
        lock (_gate)
        {
            if (!_isDisposed)
            {
                _processes.Add(process);
                return process;
            }
        }

        await process.DisposeAsync().ConfigureAwait(false);
        throw new ObjectDisposedException(nameof(Tracer));
    }
}
