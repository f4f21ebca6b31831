using System.Diagnostics.CodeAnalysis;
using FastTrap.Engine;
using FastTrap.Probes;

namespace FastTrap;

/// <summary>
/// A description that stands: enabled in the processes of a tracer that exist, in those which join later (attached, created, or forked by a followed one),
/// in the programs that they execute, and in the libraries that they load. It may match nothing yet. Dispose it to remove its probes everywhere.
/// </summary>
/// <remarks>
/// Thread-safe. A process that joins, executes or loads stands still until its probes are enabled, so no hit is missed. Processes with control threads of their own (those
/// that were attached to one by one) may call predicates and handlers at the same time; the processes of one tree are served one after another.
/// Scheme. Each process brings its changes one after another (<see cref="TracedProcess"/> keeps them in a row); members are guarded by the gate; nothing is awaited under it. A
/// disposal waits for the changes that are under way.
/// Source: dt_proc.c and dt_pid.c, by behaviour of dt_pid_create_probes_module and dtrace_enabling_matchall.
/// </remarks>
public sealed class StandingEnabling : IAsyncDisposable
{
    /// <summary>Failures that are kept; the first ones tell.</summary>
    private const int MaximumFailures = 10_000;

    private readonly Roster _roster;
    private readonly Engine.EnablingRoster _enablings;
    private readonly Func<TracedProcess, bool>? _where;
    private readonly HitRing? _ring;
    private readonly object _gate = new();
    private readonly Dictionary<ProcessImage, StandingMember> _members = [];
    private readonly HashSet<Task> _changes = [];
    private readonly List<ProbeFailure> _failures = [];
    private readonly List<FastTrapException> _processFailures = [];
    private readonly Dictionary<string, long> _endedCounts = [];
    private long _endedHits;
    private long _endedErrors;
    private Exception? _lastHandlerException;
    private bool _isDisposing;
    private Task? _disposal;

    internal StandingEnabling(
        Roster roster, Engine.EnablingRoster enablings, ProbeDescription description, ProbeOptions? options, Func<TracedProcess, bool>? where, IStandingConsumer? consumer = null)
    {
        Consumer = consumer;
        _roster = roster;
        _enablings = enablings;
        _where = where;
        Description = description;
        Options = options ?? new ProbeOptions();
        _ring = ProbeEnabling.MakeRing(Options);
    }

    /// <summary>What was asked for.</summary>
    public ProbeDescription Description { get; }

    /// <summary>The enablings of the processes in which it matches something now.</summary>
    public IReadOnlyList<ProbeEnabling> Members
    {
        get
        {
            lock (_gate)
            {
                return [.. _members.Values.Select(m => m.Enabling).OfType<ProbeEnabling>()];
            }
        }
    }

    /// <summary>Hits so far which passed the predicate, in all processes, also those that have ended.</summary>
    public long HitCount
    {
        get
        {
            lock (_gate)
            {
                return _endedHits + _members.Values.Sum(m => m.Enabling?.HitCount ?? 0);
            }
        }
    }

    /// <summary>Hits that were dropped because the buffer was full; they are in <see cref="HitCount"/>.</summary>
    public long LostHits => _ring?.Lost ?? 0;

    /// <summary>How often a predicate or a handler threw.</summary>
    public long HandlerErrors
    {
        get
        {
            lock (_gate)
            {
                return _endedErrors + _members.Values.Sum(m => m.Enabling?.HandlerErrors ?? 0);
            }
        }
    }

    /// <summary>The last exception that a predicate or a handler threw in one of the processes.</summary>
    public Exception? LastHandlerException
    {
        get
        {
            lock (_gate)
            {
                return _members.Values.Select(m => m.Enabling?.LastHandlerException).LastOrDefault(e => e is not null) ?? _lastHandlerException;
            }
        }
    }

    /// <summary>
    /// Probes that matched and could not be enabled, with reasons; the first 10,000 over all processes. A library that is unloaded, and a program that ends, are no failures.
    /// </summary>
    public IReadOnlyList<ProbeFailure> Failures
    {
        get
        {
            lock (_gate)
            {
                return [.. _failures.Concat(_members.Values.SelectMany(m => m.Enabling?.Failures ?? [])).Take(MaximumFailures)];
            }
        }
    }

    /// <summary>Processes in which nothing could be enabled, with the reason; the first 10,000.</summary>
    public IReadOnlyList<FastTrapException> ProcessFailures
    {
        get
        {
            lock (_gate)
            {
                return [.. _processFailures];
            }
        }
    }

    /// <summary>Who says what each member does; null: the options say it for all.</summary>
    internal IStandingConsumer? Consumer { get; }

    internal ProbeOptions Options { get; }

    /// <summary>What members put hits into; null if they are not buffered.</summary>
    internal HitRing? Ring => _ring;

    /// <summary>Hits so far of each probe over all processes; the key is <c>provider:module:function:name</c>, the provider without its process's id.</summary>
    public IReadOnlyDictionary<string, long> GetHitCounts()
    {
        lock (_gate)
        {
            Dictionary<string, long> counts = new(_endedCounts);
            foreach (StandingMember member in _members.Values)
            {
                AddCounts(member, counts);
            }

            return counts;
        }
    }

    /// <summary>
    /// Reads buffered hits of all processes, until the enabling or its tracer is disposed and the buffer is empty. Hits of one process come in their order. One reader at a time.
    /// </summary>
    /// <exception cref="InvalidOperationException">Hits are not buffered (<see cref="ProbeOptions.Buffered"/>), or another reader is active.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; unread hits stay.</exception>
    public IAsyncEnumerable<ProbeHit> ReadAllAsync(CancellationToken cancellationToken = default) => _ring is null
        ? throw new InvalidOperationException("This enabling has a handler and no buffer; set ProbeOptions.Buffered to true to have both.")
        : HitRing.ReadAllAsync(_ring, cancellationToken);

    /// <summary>Removes the probes from all processes. After it returns, no handler runs or will run. Called again, it waits for the same removal.</summary>
    /// <exception cref="InvalidOperationException">Called by one of the library's handlers, on a control thread.</exception>
    public ValueTask DisposeAsync()
    {
        if (_roster.IsInHandler)
        {
            throw new InvalidOperationException("An enabling cannot be disposed by a handler: the handler must return first. Signal another thread to do it.");
        }

        lock (_gate)
        {
            _isDisposing = true;
            _disposal ??= Task.Run(RemoveAsync);
            return new ValueTask(_disposal);
        }
    }

    internal bool Concerns(TracedProcess process) => _where is null || _where(process);

    /// <summary>Enables what matches now in a process, of modules that were not looked at before. The process calls this for one change after another.</summary>
    [SuppressMessage("Design", "CA1031", Justification = "Kept for the consumer: the predicate of another must not stop a process for good.")]
    internal Task JoinAsync(TracedProcess process, ProcessImage image)
    {
        TaskCompletionSource done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        StandingMember? member;
        lock (_gate)
        {
            if (_isDisposing)
            {
                return Task.CompletedTask;
            }

            _changes.Add(done.Task);
            _members.TryGetValue(image, out member);
        }

        return JoinAndFinishAsync();

        async Task JoinAndFinishAsync()
        {
            try
            {
                if (member is null && Concerns(process))
                {
                    member = new StandingMember(process, image);
                    lock (_gate)
                    {
                        if (image.IsOver)
                        {
                            // It has left already, and leaves once.
                            return;
                        }

                        _members.Add(image, member);
                    }
                }

                if (member is not null)
                {
                    await process.EnableMemberAsync(this, member).ConfigureAwait(false);
                }
            }
            catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
            {
                // It went while it joined; its end is told by itself.
            }
            catch (FastTrapException e)
            {
                AddProcessFailure(e);
            }
            catch (Exception e)
            {
                AddProcessFailure(new FastTrapException(
                    FastTrapError.Unknown, $"'{Description}' was not enabled in process {process.ProcessId}: {e.Message} Look at the inner exception.", process.ProcessId, innerException: e));
            }
            finally
            {
                lock (_gate)
                {
                    _changes.Remove(done.Task);
                }

                done.SetResult();
            }
        }
    }

    /// <summary>A program image has ended: what it counted stays, it does not.</summary>
    internal void Leave(ProcessImage image)
    {
        ProbeEnabling? enabling;
        lock (_gate)
        {
            if (!_members.Remove(image, out StandingMember? member) || (enabling = member.Enabling) is null)
            {
                return;
            }

            _endedHits += enabling.HitCount;
            _endedErrors += enabling.HandlerErrors;
            _lastHandlerException = enabling.LastHandlerException ?? _lastHandlerException;
            AddCounts(member, _endedCounts);
            foreach (ProbeFailure failure in enabling.Failures)
            {
                AddFailure(failure);
            }
        }

        _enablings.Remove(enabling);
        enabling.Process.Forget(enabling);
        Consumer?.OnLeft(image);
    }

    internal void AddFailures(IEnumerable<ProbeFailure> failures)
    {
        lock (_gate)
        {
            foreach (ProbeFailure failure in failures)
            {
                AddFailure(failure);
            }
        }
    }

    private static void AddCounts(StandingMember member, Dictionary<string, long> counts)
    {
        if (member.Enabling is not { } enabling)
        {
            return;
        }

        foreach ((string name, long count) in enabling.GetHitCountsByName())
        {
            counts[name] = counts.GetValueOrDefault(name) + count;
        }
    }

    private void AddFailure(ProbeFailure failure)
    {
        if (_failures.Count < MaximumFailures)
        {
            _failures.Add(failure);
        }
    }

    internal void AddProcessFailure(FastTrapException failure)
    {
        lock (_gate)
        {
            if (_processFailures.Count < MaximumFailures)
            {
                _processFailures.Add(failure);
            }
        }
    }

    private async Task RemoveAsync()
    {
        _roster.Remove(this);
        Task[] changes;
        lock (_gate)
        {
            changes = [.. _changes];
        }

        // None begins any more; what they enable is in the members then.
        await Task.WhenAll(changes).ConfigureAwait(false);
        await Task.WhenAll(Members.Select(m => m.DisposeAsync().AsTask())).ConfigureAwait(false);
        if (_roster.Standing.Count == 0)
        {
            await Task.WhenAll(_roster.Processes.Select(p => p.UnwatchLinkerAsync())).ConfigureAwait(false);
        }

        _enablings.Remove(this);
        _ring?.Complete();
    }
}
