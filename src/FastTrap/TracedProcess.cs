using System.Globalization;
using System.Runtime.InteropServices;
using FastTrap.Control;
using FastTrap.Engine;
using FastTrap.Engine.Mechanisms;
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
public sealed partial class TracedProcess : IAsyncDisposable
{
    private readonly Roster _roster;
    private readonly TracerCore _core;
    private readonly ProcessHandle _handle;
    private readonly bool _killOnDispose;
    private readonly RankedLock _gate = new(LockRank.ControlProcess);
    private readonly List<ProbeEnabling> _enablings = [];
    private ProcessImage _image;
    private int _executions;
    private volatile string _executablePath;
    private Task? _disposal;
    private int _references = 1;

    internal TracedProcess(Roster roster, TracerCore core, ProcessHandle handle, bool killOnDispose)
    {
        _roster = roster;
        _core = core;
        _handle = handle;
        _killOnDispose = killOnDispose;
        _image = new ProcessImage(core, handle);
        ProcessIdText = handle.ProcessId.ToString(CultureInfo.InvariantCulture);
        _executablePath = ReadExecutablePath();
        Observed = new Observer(this);
        handle.Observer = Observed;
        EmergencyRelease.Add(this);
    }

    /// <summary>The process's id.</summary>
    public int ProcessId => _handle.ProcessId;

    /// <summary>Its architecture.</summary>
    public Architecture Architecture => _handle.Architecture;

    /// <summary>The path of the executable that it runs, as the target sees it; empty if it could not be read.</summary>
    public string ExecutablePath => _executablePath;

    /// <summary>Whether it was forked by a process whose children are followed. Such a process is forgotten by its tracer when it ends; it need not be disposed.</summary>
    public bool IsFollowed { get; private init; }

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
    public Task ResumeAsync() => _handle.Thread.InvokeAsync(_handle, () =>
    {
        _handle.Thread.ResumeHeld(_handle);
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
                ProcessImage image = Image;
                List<ProbeInfo> probes = image.Matcher.List(description, cancellationToken);
                image.Dof.List(image.GetProc, description, probes);
                return probes;
            },
            cancellationToken);
    }

    /// <summary>Says which part of a description matches nothing, what there is instead, and what to do: for a description of which <see cref="ListAsync"/> found nothing.</summary>
    /// <exception cref="FastTrapException">The process has ended.</exception>
    public string ExplainNoMatch(ProbeDescription description)
    {
        ArgumentNullException.ThrowIfNull(description);
        RequireAlive();
        return Image.Matcher.ExplainNoMatch(description).Message;
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
        Task rehearsal = requests.Any(r => MayJump(r?.Options?.Program)) ? Rehearsal.RunAsync(_core.Logger) : Task.CompletedTask;
        List<(ProbeEnabling Enabling, IReadOnlyList<ProbeSpec> Specs)> work = await Task.Run(() => Prepare(image, requests, cancellationToken), cancellationToken)
            .ConfigureAwait(false);
        await rehearsal.ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
        Proc proc = work[0].Enabling.Proc;
        using (_gate.Enter())
        {
            ObjectDisposedException.ThrowIf(_disposal is not null, this);
            _enablings.AddRange(work.Select(w => w.Enabling));
        }

        try
        {
            await _handle.Thread.RunSlicedAsync(_handle, Enable(image, proc, work)).ConfigureAwait(false);
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

    /// <summary>
    /// Removes all probes and detaches, or kills what was created; waits until the kernel has let go. If the process was attached to more than once with the same
    /// tracer, the last disposal does so, and the others nothing.
    /// </summary>
    /// <exception cref="InvalidOperationException">Called by one of the library's handlers, on the control thread.</exception>
    public ValueTask DisposeAsync() => ReleaseAsync(WasCreated && _killOnDispose ? ReleaseKind.Kill : ReleaseKind.Run);

    /// <summary>As <see cref="DisposeAsync"/>, and says what becomes of the process.</summary>
    /// <param name="kind">What becomes of it.</param>
    /// <exception cref="ArgumentOutOfRangeException">Not one of the kinds.</exception>
    /// <exception cref="InvalidOperationException">Called by one of the library's handlers, on the control thread.</exception>
    public ValueTask ReleaseAsync(ReleaseKind kind)
    {
        if (!Enum.IsDefined(kind))
        {
            throw new ArgumentOutOfRangeException(nameof(kind));
        }

        RequireOtherThread();
        using (_gate.Enter())
        {
            if (_references > 1)
            {
                _references--;
                return ValueTask.CompletedTask;
            }

            _references = 0;
            return new ValueTask(CloseLocked(kind));
        }
    }

    /// <summary>As <see cref="DisposeAsync"/>, whoever else uses it: the tracer ends.</summary>
    internal ValueTask CloseAsync()
    {
        RequireOtherThread();
        using (_gate.Enter())
        {
            _references = 0;
            return new ValueTask(CloseLocked(WasCreated && _killOnDispose ? ReleaseKind.Kill : ReleaseKind.Run));
        }
    }

    /// <summary>Another user of the same handle; false if it is over, or is being disposed: then <paramref name="end"/> says when that is done.</summary>
    internal bool TryAddReference(out Task end)
    {
        using (_gate.Enter())
        {
            end = _disposal ?? Task.CompletedTask;
            if (_disposal is not null || _handle.IsOver)
            {
                return false;
            }

            _references++;
            return true;
        }
    }

    internal ProcessHandle Handle => _handle;

    internal IProcessObserver Observed { get; }

    /// <summary>Its start failed, and control has let go of it.</summary>
    internal void Abandon()
    {
        EmergencyRelease.Remove(this);
        _roster.Remove(this);
    }

    private void RequireOtherThread()
    {
        if (_handle.Thread.IsCurrent)
        {
            throw new InvalidOperationException("A process cannot be disposed by a handler: the handler must return first. Signal another thread to do it.");
        }
    }

    private Task CloseLocked(ReleaseKind kind) =>
        // Not from here: it takes the gates of others, and they take this one.
        _disposal ??= Task.Run(() => EndAsync(kind));

    /// <summary>The last resort at the end of the tracer: the text is restored, whatever the control thread does.</summary>
    internal void RestoreBytes()
    {
        Image.RestoreBytes();
        _handle.ControlBreakpoints.RestoreBytes();
    }

    internal void Forget(ProbeEnabling enabling)
    {
        using (_gate.Enter())
        {
            _enablings.Remove(enabling);
        }
    }

    private ProcessImage Image => Volatile.Read(ref _image);

    private void RequireAlive()
    {
        if (_handle.IsOver)
        {
            throw _handle.MakeRefusal();
        }
    }

    private void RequireNoShadowStack()
    {
        if (ProcStatus.TryRead(_core.Platform, ProcessId, out ProcStatus? status, out _) && status!.HasShadowStack)
        {
            throw new FastTrapException(
                FastTrapError.ShadowStack,
                $"Process {ProcessId} ({status.Name}) runs with a user shadow stack, which emulated calls and returns would put out of step. Start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off to probe it.",
                ProcessId);
        }
    }

    /// <summary>Has the process prepared to run with its probes and without a tracer. Null, or why it cannot.</summary>
    internal Task<string?> PrepareForLifeAsync() => _handle.Thread.InvokeAsync(_handle, Image.GetProc().Jump.PrepareForLife);

    private string ReadExecutablePath() => _core.Platform.ReadLink($"/proc/{ProcessId}/exe", out _) ?? "";

    private List<(ProbeEnabling Enabling, IReadOnlyList<ProbeSpec> Specs)> Prepare(
        ProcessImage image, IReadOnlyList<ProbeRequest> requests, CancellationToken cancellationToken)
    {
        RequireAlive();
        RequireNoShadowStack();
        Proc proc = image.GetProc();
        List<(ProbeEnabling, IReadOnlyList<ProbeSpec>)> work = [];
        foreach (ProbeRequest request in requests)
        {
            ArgumentNullException.ThrowIfNull(request);
            ArgumentNullException.ThrowIfNull(request.Description);
            MatchResult match = image.Matcher.Match(request.Description, refresh: work.Count == 0, cancellationToken);
            image.Dof.TryRegister(() => proc, request.Description, match.Failures, out HashSet<string> described);
            RegisteredProbes.Match(_core, proc, request.Description, match, described);
            if (request.Options?.AfterInstruction == true)
            {
                match.FireAfter(request.Description, ProcessId);
            }

            if (match.Specs.Count == 0)
            {
                _core.Enablings.CountRefused(match.Failures.Count);
                throw match.Failures.Count == 0
                    ? image.Matcher.ExplainNoMatch(request.Description)
                    : AllRefused(request.Description, match.Failures);
            }

            work.Add((
                new ProbeEnabling(this, proc, request.Description, request.Options, match.Failures),
                MayJump(request.Options?.Program) ? image.Matcher.FindWindows(match.Specs, cancellationToken) : match.Specs));
        }

        return work;
    }

    private bool MayJump(ISiteProgram? program) => Architecture == Architecture.X64 && program is { Mechanism: not ProbeMechanism.Breakpoint };

    /// <summary>Control thread. An exec since the look at the program made a new image: what was found is of no use there.</summary>
    private IEnumerator<bool> Enable(ProcessImage image, Proc proc, List<(ProbeEnabling Enabling, IReadOnlyList<ProbeSpec> Specs)> work)
    {
        if (Image != image)
        {
            throw new FastTrapException(
                FastTrapError.ProcessEnded, $"Process {ProcessId} executed another program while probes were being enabled; enable them again.", ProcessId);
        }

        if (proc.IsLettingGo)
        {
            throw new FastTrapException(FastTrapError.Detached, $"Process {ProcessId} is being let go of; attach to it again.", ProcessId);
        }

        if (EmergencyRelease.IsEnding)
        {
            throw new FastTrapException(FastTrapError.Detached, "The tracer is ending: no probe is enabled any more.", ProcessId);
        }

        if (Architecture == Architecture.X64 && work.Any(w => w.Enabling.Program?.MayBeCode == true))
        {
            _handle.Handler = proc;
            proc.Jump.Traps.Begin(work.Sum(w => w.Specs.Count));
        }

        // What is loaded later may stand where something else stood: probes of what goes must go with it.
        _handle.Thread.WatchLinker(_handle, keeps: false);
        _handle.Handler = proc;
        using IEnumerator<bool> slices = proc.Enable(work);
        while (slices.MoveNext())
        {
            yield return true;
        }
    }

    private FastTrapException AllRefused(ProbeDescription description, IReadOnlyList<ProbeFailure> failures) => new(
        failures.Count != 0 && failures.All(f => f.Refusal == ProbeRefusal.TooManyTracepoints) ? FastTrapError.TooManyTracepoints : FastTrapError.NoMatch,
        (failures.Count switch
        {
            0 => $"'{description}' enabled no probe.",
            1 => $"'{description}' matches one probe, and it is refused: {failures[0]}",
            _ => $"'{description}' matches {failures.Count} probes, and all are refused. The first: {failures[0]}",
        }) + (failures.Any(f => f.Refusal == ProbeRefusal.Unloaded) ? $" {ProbeMatcher.StandingAdvice}" : ""),
        ProcessId, address: failures.Count == 0 ? 0 : failures[0].Address);

    private async Task EndAsync(ReleaseKind kind)
    {
        ProbeEnabling[] enablings;
        using (_gate.Enter())
        {
            enablings = [.. _enablings];
        }

        // First, and on this thread, for a tracer that ends by a signal: killed from any thread, it does not depend on the control thread.
        if (kind == ReleaseKind.Kill && !_handle.IsOver && _core.Platform.Kill(ProcessId, Signal.SIGKILL) is Errno.None or Errno.ESRCH)
        {
            await Completion.ConfigureAwait(false);
        }

        await _handle.Thread.ReleaseAsync(_handle, kind).ConfigureAwait(false);
        if (IsLetGo)
        {
            await ReclaimAsync().ConfigureAwait(false);
        }

        foreach (ProbeEnabling enabling in enablings)
        {
            await enabling.DisposeAsync().ConfigureAwait(false);
        }

        Image.Retire();
        EmergencyRelease.Remove(this);
        _roster.Remove(this);
    }
}
