using System.Runtime.CompilerServices;
using FastTrap.Engine;
using FastTrap.Isa;
using FastTrap.Probes;

namespace FastTrap;

/// <summary>
/// A live subscription to the probes that one description matched in one process. Disposing it removes the probes; after
/// <see cref="DisposeAsync"/> has returned, no handler of it runs or will run.
/// </summary>
/// <remarks>
/// Thread-safe; <see cref="ReadAllAsync"/> has one reader at a time. Predicates and handlers run on the process's control thread, one after another.
/// Source: dtrace_impl.h, dtrace_enabling.
/// </remarks>
public sealed partial class ProbeEnabling : IAsyncDisposable
{
    /// <summary>Frames that a buffer holds over all its hits: half a gigabyte.</summary>
    internal const long MaximumStackFrames = 1 << 26;

    private readonly ProbeOptions _options;
    private readonly HitRing? _ring;

    /// <summary>Whose member it is: that one's ring is used, is read there, and is completed there. Null: nobody's.</summary>
    private readonly StandingEnabling? _standing;
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly RankedLock _gate = new(LockRank.Enabling);
    private readonly List<ProbeFailure> _failures;
    private readonly EnabledProbeList _enabled = new();

    /// <summary>Of a member: hits of probes that were withdrawn, by name. A library may come and go for ever.</summary>
    private readonly Dictionary<string, long> _withdrawn = [];
    private Task? _disposal;
    private long _hitCount;
    private long _handlerErrors;
    private Exception? _lastHandlerException;
    private bool _isOver;

    internal ProbeEnabling(
        TracedProcess process, Proc proc, ProbeDescription description, ProbeOptions? options, IEnumerable<ProbeFailure> failures, StandingEnabling? standing = null)
    {
        Process = process;
        Proc = proc;
        Description = description;
        _options = options ?? new ProbeOptions();
        _failures = [.. failures];
        _standing = standing;
        _ring = standing is null ? MakeRing(_options) : standing.Ring;
        if (_options.Budget is { } budget)
        {
            _governor = new BudgetGovernor(budget, _options.BudgetAction, System.Diagnostics.Stopwatch.Frequency);
        }

        proc.Core.Enablings.Add(this);
        proc.Core.Enablings.CountRefused(_failures.Count);
    }

    internal Proc Proc { get; }

    internal Control.StallMeter StallMeter { get; } = new();

    /// <summary>How long enabling it, and disabling it, held threads of the process up. Any thread, at any time.</summary>
    public ProbeStall Stall => StallMeter.Stall;

    /// <summary>Ends when it was disposed, or its process image ended: no hit comes any more.</summary>
    internal Task Completion => _completion.Task;

    /// <summary>The buffer that options ask for; null if they ask for none.</summary>
    /// <exception cref="ArgumentException">It would be too large.</exception>
    internal static HitRing? MakeRing(ProbeOptions options)
    {
        if (options.IsBuffered && (long)options.BufferCapacity * options.StackDepth > MaximumStackFrames)
        {
            throw new ArgumentException(
                $"A buffer of {options.BufferCapacity} hits with {options.StackDepth} frames each is too large; their product may be {MaximumStackFrames} at most.", nameof(options));
        }

        HitTexts? texts = options.IsBuffered && options.StringIndices.Length != 0 ? new HitTexts(options.StringIndices, options.StringLength) : null;
        if (texts is not null && (long)options.BufferCapacity * texts.Length > ProbeOptions.MaximumTextBytes)
        {
            throw new ArgumentException(
                $"A buffer of {options.BufferCapacity} hits with {texts.Length} bytes of texts each is too large; their product may be {ProbeOptions.MaximumTextBytes} at most.",
                nameof(options));
        }

        return options.IsBuffered ? new HitRing(options.BufferCapacity, options.StackDepth, texts) : null;
    }

    /// <summary>What it does at a hit, as code for the target; null: only its handlers can.</summary>
    internal Engine.Mechanisms.ISiteProgram? Program => _options.Program;

    internal bool RaisesSemaphores => _options.RaiseSemaphores;

    /// <summary>The process.</summary>
    public TracedProcess Process { get; }

    /// <summary>What was asked for.</summary>
    public ProbeDescription Description { get; }

    /// <summary>The probes that are, or were, enabled; of a member of a standing enabling, those that are.</summary>
    public IReadOnlyList<Probe> Probes
    {
        get
        {
            using (_gate.Enter())
            {
                return [.. _enabled.All().Select(e => e.Probe)];
            }
        }
    }

    /// <summary>Probes that matched and could not be enabled, or were withdrawn at a hit, with reasons. It may grow.</summary>
    public IReadOnlyList<ProbeFailure> Failures
    {
        get
        {
            using (_gate.Enter())
            {
                return [.. _failures];
            }
        }
    }

    /// <summary>Hits so far which passed the predicate.</summary>
    public long HitCount => Volatile.Read(ref _hitCount);

    /// <summary>Hits that were dropped because the buffer was full; they are in <see cref="HitCount"/>. A member of a standing enabling has no buffer of its own: 0.</summary>
    public long LostHits => _standing is not null ? 0 : _ring?.Lost ?? 0;

    /// <summary>How often a predicate or a handler threw.</summary>
    public long HandlerErrors => Volatile.Read(ref _handlerErrors);

    /// <summary>The last exception that a predicate or a handler threw; the hit counts as not passed, or as not handled.</summary>
    public Exception? LastHandlerException => Volatile.Read(ref _lastHandlerException);

    /// <summary>The probes as the control thread sees them.</summary>
    internal IEnumerable<EnabledProbe> EnabledProbes => _enabled.All();

    /// <summary>Hits of one probe so far which passed the predicate; 0 for a probe of another enabling.</summary>
    public long GetHitCount(Probe probe)
    {
        using (_gate.Enter())
        {
            return _enabled.Find(probe)?.HitCount ?? 0;
        }
    }

    /// <summary>
    /// Reads buffered hits in the order in which they came, until the enabling is disposed or the process ends, and the buffer is empty.
    /// One reader at a time.
    /// </summary>
    /// <exception cref="InvalidOperationException">Hits are not buffered (<see cref="ProbeOptions.Buffered"/>), or another reader is active.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; unread hits stay.</exception>
    public IAsyncEnumerable<ProbeHit> ReadAllAsync(CancellationToken cancellationToken = default) => _ring is null
        ? throw new InvalidOperationException("This enabling has a handler and no buffer; set ProbeOptions.Buffered to true to have both.")
        : _standing is not null ? throw new InvalidOperationException("This enabling is a member of a standing one; read that.")
        : HitRing.ReadAllAsync(_ring, cancellationToken);

    /// <summary>
    /// Removes the probes from the target. After it returns, no handler runs or will run. Called again, it waits for the same removal.
    /// </summary>
    /// <exception cref="InvalidOperationException">Called by one of the library's handlers, on the control thread.</exception>
    public ValueTask DisposeAsync()
    {
        if (Proc.Process.Thread.IsCurrent)
        {
            throw new InvalidOperationException("An enabling cannot be disposed by a handler: the handler must return first. Signal another thread to do it.");
        }

        using (_gate.Enter())
        {
            // Not from here: it takes the process's gate, which may be held by one who wants this.
            _disposal ??= Task.Run(DisableAsync);
            return new ValueTask(_disposal);
        }
    }

    /// <summary>The counts of all probes, also of those that were withdrawn, in one look; a name may come more than once.</summary>
    internal IReadOnlyList<(string Name, long Count)> GetHitCountsByName()
    {
        using (_gate.Enter())
        {
            return [.. _enabled.All().Select(e => (NameOf(e.Probe), e.HitCount)), .. _withdrawn.Select(w => (w.Key, w.Value))];
        }
    }

    /// <summary>A probe's name over all processes: its provider without the process's id.</summary>
    private string NameOf(Probe probe)
    {
        string provider = probe.Provider.EndsWith(Process.ProcessIdText, StringComparison.Ordinal) ? probe.Provider[..^Process.ProcessIdText.Length] : probe.Provider;
        return $"{provider}:{probe.Module}:{probe.Function}:{probe.Name}";
    }

    internal void Add(EnabledProbe enabled)
    {
        using (_gate.Enter())
        {
            _enabled.Add(enabled);
        }
    }

    internal void AddFailure(ProbeSpec spec, string provider, ProbeRefusal refusal)
    {
        Proc.Core.Enablings.CountRefused(1);
        using (_gate.Enter())
        {
            _failures.Add(new ProbeFailure(
                $"{provider}:{spec.Module}:{spec.Function}:{spec.Name}", spec.Address, refusal, refusal.Describe()));
        }
    }

    internal void OnWithdrawn(EnabledProbe enabled, ulong address, ProbeRefusal refusal, string? reason)
    {
        Proc.Core.Enablings.CountRefused(1);
        using (_gate.Enter())
        {
            if (_standing is not null)
            {
                string name = NameOf(enabled.Probe);
                _withdrawn[name] = _withdrawn.GetValueOrDefault(name) + enabled.HitCount;
                _enabled.Remove(enabled);
                if (refusal == ProbeRefusal.Unloaded)
                {
                    // It stands for the library's next life.
                    return;
                }
            }

            string message = refusal.Describe();
            _failures.Add(new ProbeFailure(enabled.Probe.ToString(), address, refusal, reason is null ? message : $"{message} ({reason})"));
            if (enabled.HitCount == 0)
            {
                _enabled.Remove(enabled);
            }
        }
    }

    internal void OnProcessGone()
    {
        _isOver = true;
        CompleteRing();
    }

    /// <summary>A hit of one of the probes. Control thread; the target's thread is stopped. Allocates nothing.</summary>
    internal void Fire(EnabledProbe enabled, HitFrame frame, ref RegisterSet registers)
    {
        if (IsResting)
        {
            return;
        }

        frame.Charge(this);
        ProbeContext context = new(enabled, frame, ref registers);
        try
        {
            if (_options.Predicate is { } predicate && !predicate(context))
            {
                return;
            }

            Volatile.Write(ref _hitCount, _hitCount + 1);
            enabled.CountHit();
            _options.OnHit?.Invoke(context);
        }
        catch (Exception e)
        {
            // The target must not suffer from a consumer's error, so it is kept for the consumer to see.
            Volatile.Write(ref _lastHandlerException, e);
            Volatile.Write(ref _handlerErrors, _handlerErrors + 1);
            return;
        }

        if (_ring is not null)
        {
            Record(enabled, context, frame);
        }
    }

    private void Record(EnabledProbe enabled, in ProbeContext context, HitFrame frame)
    {
        ref HitRecord record = ref _ring!.TryBegin(out long position, out Span<ulong> stack, out Span<byte> texts);
        if (Unsafe.IsNullRef(ref record))
        {
            return;
        }

        record.Source = enabled;
        record.ProcessId = context.ProcessId;
        record.ThreadId = context.ThreadId;
        record.TimestampNs = frame.TimestampNs;
        record.ProgramCounter = frame.SiteAddress;
        RecordArguments(enabled.Probe, context, ref record);
        _ring.Texts?.Record(context, texts);
        record.StackCount = stack.IsEmpty ? 0 : context.GetUserStack(stack);
        _ring.End(position);
    }

    private void RecordArguments(Probe probe, in ProbeContext context, ref HitRecord record)
    {
        // Of the arguments of a static probe each stands for itself; those of a function end where one cannot be read.
        int wanted = _options.ArgumentCount;
        bool isStatic = probe.Kind == ProbeKind.Static;
        wanted = isStatic ? Math.Min(wanted, probe.ArgumentsAt(context.ProgramCounter).Length) : wanted;
        record.Unreadable = 0;
        int count = 0;
        for (; count < wanted; count++)
        {
            bool isRead = context.TryGetArgument(count, out ulong value);
            if (!isRead && !isStatic)
            {
                break;
            }

            record.Arguments[count] = value;
            record.Unreadable |= isRead ? 0 : 1u << count;
        }

        record.ArgumentCount = count;
    }

    private void CompleteRing()
    {
        _completion.TrySetResult();
        if (_standing is null)
        {
            _ring?.Complete();
        }
    }

    private async Task DisableAsync()
    {
        if (Process.IsLetGo)
        {
            await Process.ReclaimAsync().ConfigureAwait(false);
        }

        try
        {
            if (!_isOver)
            {
                await Proc.Process.Thread.RunSlicedAsync(Proc.Process, Proc.Disable(this)).ConfigureAwait(false);
            }
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // Gone with the process: there is nothing left to remove.
        }

        CompleteRing();
        Proc.Core.Enablings.Remove(this);
        Process.Forget(this);
    }
}
