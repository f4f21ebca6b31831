using System.Runtime.InteropServices;
using FastTrap.Control;
using FastTrap.Engine;
using FastTrap.Native;
using FastTrap.Probes;

namespace FastTrap;

/// <summary>
/// A process under control of a <see cref="Tracer"/>. Disposing it removes all probes and detaches; a created process is killed first, unless
/// <see cref="CreateOptions.KillOnDispose"/> is false.
/// </summary>
/// <remarks>
/// Thread-safe. Source: dt_proc.c, by behaviour of dt_proc_create, dt_proc_grab and dt_proc_release.
/// </remarks>
public sealed class TracedProcess : IAsyncDisposable
{
    private readonly Action<TracedProcess> _released;
    private readonly TracerCore _core;
    private readonly ProcessHandle _handle;
    private readonly bool _killOnDispose;
    private readonly object _gate = new();
    private readonly List<ProbeEnabling> _enablings = [];
    private ProcessImage _image;
    private int _executions;
    private Task? _disposal;

    internal TracedProcess(Action<TracedProcess> released, TracerCore core, ProcessHandle handle, bool killOnDispose)
    {
        _released = released;
        _core = core;
        _handle = handle;
        _killOnDispose = killOnDispose;
        _image = new ProcessImage(core, handle);
        ExecutablePath = core.Platform.ReadLink($"/proc/{handle.ProcessId}/exe", out _) ?? "";
        handle.Executed = () =>
        {
            Volatile.Write(ref _image, new ProcessImage(core, handle));
            Interlocked.Increment(ref _executions);
        };
        EmergencyRelease.Add(this);
    }

    /// <summary>The process's id.</summary>
    public int ProcessId => _handle.ProcessId;

    /// <summary>Its architecture.</summary>
    public Architecture Architecture => _handle.Architecture;

    /// <summary>The executable's path as the target sees it, at the time of the attach; empty if it could not be read.</summary>
    public string ExecutablePath { get; }

    /// <summary>Whether it was created by <see cref="Tracer.CreateAsync"/>, rather than attached to.</summary>
    public bool WasCreated => _handle.WasCreated;

    /// <summary>
    /// How often it has executed another program since it was attached to, or since the creation was complete. Each time ended the enablings of
    /// the program before. Any thread may ask, also after the process's end.
    /// </summary>
    public int Executions => Volatile.Read(ref _executions);

    /// <summary>Ends when the process does, or when it is detached from.</summary>
    public Task<ProcessExit> Completion => _handle.Completion;

    /// <summary>Lets a created process go on from where it waits. Does nothing the second time.</summary>
    /// <exception cref="FastTrapException">The process has ended.</exception>
    public Task ResumeAsync() => _handle.Thread.InvokeAsync(() =>
    {
        _handle.Thread.ResumeHeld();
        return true;
    });

    /// <summary>
    /// Lists the probes which match a description, in the order of modules and addresses, enabling nothing. Whether an instruction
    /// can be probed is not looked at: enabling tells.
    /// A wide pattern with a name of <c>*</c> lists every instruction: millions in a large program.
    /// </summary>
    /// <exception cref="FastTrapException">The process has ended.</exception>
    public Task<IReadOnlyList<ProbeInfo>> ListAsync(ProbeDescription description, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(description);
        return Task.Run<IReadOnlyList<ProbeInfo>>(
            () =>
            {
                RequireAlive();
                return Image.Matcher.List(description, cancellationToken);
            },
            cancellationToken);
    }

    /// <summary>Enables the probes which match a description.</summary>
    /// <param name="description">The pattern; a string converts.</param>
    /// <param name="options">What to do with hits; null: buffer them.</param>
    /// <param name="cancellationToken">Cancels until the target begins to be changed.</param>
    /// <returns>An enabling, which lists the probes that could not be enabled in <see cref="ProbeEnabling.Failures"/>.</returns>
    /// <exception cref="FastTrapException">Nothing matches, or all that matches is refused, or the process has ended.</exception>
    public async Task<ProbeEnabling> EnableAsync(ProbeDescription description, ProbeOptions? options = null, CancellationToken cancellationToken = default)
    {
        IReadOnlyList<ProbeEnabling> enablings = await EnableAsync([new ProbeRequest(description, options)], cancellationToken).ConfigureAwait(false);
        return enablings[0];
    }

    /// <summary>Enables several descriptions in one change of the target. If one of them matches nothing, none is enabled.</summary>
    /// <param name="requests">The descriptions with their options, one at least.</param>
    /// <param name="cancellationToken">Cancels until the target begins to be changed.</param>
    /// <returns>One enabling for each request, in their order.</returns>
    /// <exception cref="ArgumentException">No request.</exception>
    /// <exception cref="FastTrapException">A request matches nothing, or all it matches is refused, or the process has ended.</exception>
    public async Task<IReadOnlyList<ProbeEnabling>> EnableAsync(IReadOnlyList<ProbeRequest> requests, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(requests);
        if (requests.Count == 0)
        {
            throw new ArgumentException("Give one request at least.", nameof(requests));
        }

        if (_handle.Thread.IsCurrent)
        {
            throw new InvalidOperationException("A handler cannot enable probes: it must return first. Signal another thread to do it.");
        }

        ProcessImage image = Image;
        List<(ProbeEnabling Enabling, IReadOnlyList<ProbeSpec> Specs)> work = await Task.Run(() => Prepare(image, requests, cancellationToken), cancellationToken)
            .ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
        Proc proc = work[0].Enabling.Proc;
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposal is not null, this);
            _enablings.AddRange(work.Select(w => w.Enabling));
        }

        try
        {
            await _handle.Thread.RunSlicedAsync(Enable(image, proc, work)).ConfigureAwait(false);
        }
        catch
        {
            foreach ((ProbeEnabling enabling, _) in work)
            {
                await enabling.DisposeAsync().ConfigureAwait(false);
            }

            throw;
        }

        ProbeEnabling? empty = work.Select(w => w.Enabling).FirstOrDefault(e => e.Probes.Count == 0);
        if (empty is not null)
        {
            foreach ((ProbeEnabling enabling, _) in work)
            {
                await enabling.DisposeAsync().ConfigureAwait(false);
            }

            throw AllRefused(empty.Description, empty.Failures);
        }

        return [.. work.Select(w => w.Enabling)];
    }

    /// <summary>Reads target memory, without our probes in it. Returns the bytes read, fewer where memory ends, 0 if none or if the process has ended or was detached.</summary>
    public int ReadMemory(ulong address, Span<byte> buffer) => _handle.IsOver ? 0 : Math.Max(0, Image.ReadMemory(address, buffer));

    /// <summary>Writes target data memory; false if not all of it could be written. Text cannot be written with this.</summary>
    public bool TryWriteMemory(ulong address, ReadOnlySpan<byte> data) =>
        !_handle.IsOver && _core.Platform.WriteMemory(ProcessId, address, data) == data.Length;

    /// <summary>Names the function an address belongs to; false if it is in no module.</summary>
    public bool TryResolve(ulong address, out CodeLocation location) => Image.Matcher.TryResolve(address, out location);

    /// <summary>Looks anew at which modules the target has mapped. Enabling and listing do so by themselves.</summary>
    public void RefreshModules() => Image.Matcher.Refresh();

    /// <summary>Removes all probes and detaches, or kills what was created; waits until the kernel has let go.</summary>
    /// <exception cref="InvalidOperationException">Called by one of the library's handlers, on the control thread.</exception>
    public ValueTask DisposeAsync()
    {
        if (_handle.Thread.IsCurrent)
        {
            throw new InvalidOperationException("A process cannot be disposed by a handler: the handler must return first. Signal another thread to do it.");
        }

        lock (_gate)
        {
            // Not from here: it takes the gates of others, and they take this one.
            _disposal ??= Task.Run(ReleaseAsync);
            return new ValueTask(_disposal);
        }
    }

    /// <summary>The last resort at the end of the tracer: the text is restored, whatever the control thread does.</summary>
    internal void RestoreBytes() => Image.RestoreBytes();

    internal void Forget(ProbeEnabling enabling)
    {
        lock (_gate)
        {
            _enablings.Remove(enabling);
        }
    }

    private ProcessImage Image => Volatile.Read(ref _image);

    private void RequireAlive()
    {
        if (_handle.IsOver)
        {
            throw Completion.Result.Kind == ProcessExitKind.Detached
                ? new FastTrapException(FastTrapError.Detached, $"Process {ProcessId} was detached from; attach to it again.", ProcessId)
                : new FastTrapException(FastTrapError.ProcessEnded, $"Process {ProcessId} has ended.", ProcessId);
        }
    }

    private List<(ProbeEnabling Enabling, IReadOnlyList<ProbeSpec> Specs)> Prepare(
        ProcessImage image, IReadOnlyList<ProbeRequest> requests, CancellationToken cancellationToken)
    {
        RequireAlive();
        if (ProcStatus.TryRead(_core.Platform, ProcessId, out ProcStatus? status, out _) && status!.HasShadowStack)
        {
            throw new FastTrapException(
                FastTrapError.ShadowStack,
                $"Process {ProcessId} ({status.Name}) runs with a user shadow stack, which emulated calls and returns would put out of step. Start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off to probe it.",
                ProcessId);
        }

        Proc proc = image.GetProc();
        List<(ProbeEnabling, IReadOnlyList<ProbeSpec>)> work = [];
        foreach (ProbeRequest request in requests)
        {
            ArgumentNullException.ThrowIfNull(request);
            ArgumentNullException.ThrowIfNull(request.Description);
            MatchResult match = image.Matcher.Match(request.Description, refresh: work.Count == 0, cancellationToken);
            if (match.Specs.Count == 0)
            {
                throw match.Failures.Count == 0
                    ? image.Matcher.ExplainNoMatch(request.Description)
                    : AllRefused(request.Description, match.Failures);
            }

            work.Add((new ProbeEnabling(this, proc, request.Description, request.Options, match.Failures), match.Specs));
        }

        return work;
    }

    /// <summary>Control thread. An exec since the look at the program made a new image: what was found is of no use there.</summary>
    private IEnumerator<bool> Enable(ProcessImage image, Proc proc, List<(ProbeEnabling Enabling, IReadOnlyList<ProbeSpec> Specs)> work)
    {
        if (Image != image)
        {
            throw new FastTrapException(
                FastTrapError.ProcessEnded, $"Process {ProcessId} executed another program while probes were being enabled; enable them again.", ProcessId);
        }

        _handle.Handler = proc;
        using IEnumerator<bool> slices = proc.Enable(work);
        while (slices.MoveNext())
        {
            yield return true;
        }
    }

    private FastTrapException AllRefused(ProbeDescription description, IReadOnlyList<ProbeFailure> failures) => new(
        failures.Count != 0 && failures.All(f => f.Refusal == ProbeRefusal.TooManyTracepoints) ? FastTrapError.TooManyTracepoints : FastTrapError.NoMatch,
        failures.Count == 0
            ? $"'{description}' enabled no probe."
            : $"'{description}' matches {failures.Count} probes, and all are refused. The first: {failures[0]}",
        ProcessId, address: failures.Count == 0 ? 0 : failures[0].Address);

    private async Task ReleaseAsync()
    {
        if (WasCreated && _killOnDispose && !_handle.IsOver)
        {
            // One that has made itself another user's may not be killed: it is detached from.
            if (_core.Platform.Kill(ProcessId, Signal.SIGKILL) is Errno.None or Errno.ESRCH)
            {
                await Completion.ConfigureAwait(false);
            }
        }

        ProbeEnabling[] enablings;
        lock (_gate)
        {
            enablings = [.. _enablings];
        }

        try
        {
            await _handle.Thread.InvokeAsync(() =>
            {
                _handle.Thread.DetachAndEnd();
                return true;
            }).ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // It ended by itself, and the control thread with it.
        }

        foreach (ProbeEnabling enabling in enablings)
        {
            await enabling.DisposeAsync().ConfigureAwait(false);
        }

        await _handle.Thread.WaitForEndAsync().ConfigureAwait(false);
        EmergencyRelease.Remove(this);
        _released(this);
    }
}
