using System.Diagnostics.CodeAnalysis;
using FastTrap.Engine;

namespace FastTrap;

/// <summary>
/// A query that stands: enabled in the processes of a tracer that exist, in those which join later, in the programs that they execute, and in the libraries that they load. Each program image in which it matches something
/// has a result of its own. Dispose it to remove its probes everywhere.
/// </summary>
/// <remarks>
/// Thread-safe. Scheme. What is enabled are <see cref="StandingEnabling"/>s, one for each description of the query, which ask here what their members are to do; members are guarded by the gate. The two callbacks of one member come one
/// after the other, on threads of the pool, and nothing is locked meanwhile.
/// </remarks>
/// <typeparam name="TResult">What comes of the query in one program image.</typeparam>
public sealed class StandingResult<TResult> : IAsyncDisposable
    where TResult : ProbeResult
{
    private readonly object _gate = new();
    private readonly ProbeQuery<TResult> _query;
    private readonly Action<TracedProcess, TResult>? _started;
    private readonly Action<TracedProcess, TResult>? _ended;
    private readonly Dictionary<ProcessImage, Member> _members = [];
    private readonly HashSet<Member> _leaving = [];
    private StandingEnabling[] _standing = [];
    private long _endedCount;
    private Exception? _lastCallbackException;

    internal StandingResult(ProbeQuery<TResult> query, Action<TracedProcess, TResult>? started, Action<TracedProcess, TResult>? ended)
    {
        _query = query;
        _started = started;
        _ended = ended;
    }

    /// <summary>The results of the processes in which it matches something now; after the disposal, of those in which it did.</summary>
    public IReadOnlyList<KeyValuePair<TracedProcess, TResult>> Members
    {
        get
        {
            lock (_gate)
            {
                return [.. _members.Values.Select(m => KeyValuePair.Create(m.Process, m.Result))];
            }
        }
    }

    /// <summary>Hits that passed the conditions, in all processes, also those that have ended. As <see cref="ProbeResult.Count"/>.</summary>
    public long Count
    {
        get
        {
            lock (_gate)
            {
                Fold();
                return _endedCount + _leaving.Sum(m => m.Result.Count) + _members.Values.Sum(m => m.Result.Count);
            }
        }
    }

    /// <summary>As <see cref="StandingEnabling.Failures"/>.</summary>
    public IReadOnlyList<ProbeFailure> Failures => [.. _standing.SelectMany(s => s.Failures)];

    /// <summary>As <see cref="StandingEnabling.ProcessFailures"/>.</summary>
    public IReadOnlyList<FastTrapException> ProcessFailures => [.. _standing.SelectMany(s => s.ProcessFailures)];

    /// <summary>The last exception that a callback threw; the process does not notice.</summary>
    public Exception? LastCallbackException => Volatile.Read(ref _lastCallbackException);

    /// <summary>Removes the probes from all processes. After it returns nothing is gathered any more, and no callback runs.</summary>
    /// <exception cref="InvalidOperationException">Called by one of the library's handlers, on a control thread.</exception>
    public async ValueTask DisposeAsync()
    {
        await Task.WhenAll(_standing.Select(s => s.DisposeAsync().AsTask())).ConfigureAwait(false);
        Task[] calls;
        lock (_gate)
        {
            calls = [.. _leaving.Concat(_members.Values).Select(m => m.Calls)];
        }

        await Task.WhenAll(calls).ConfigureAwait(false);
    }

    /// <summary>What is to stand, one for each description.</summary>
    internal IEnumerable<(ProbeDescription Description, IStandingConsumer Consumer)> Begin()
    {
        // One for nobody tells whether it can be compiled, and what it asks for.
        _query.Compile(out IReadOnlyList<ProbeRequest> requests);
        return [.. requests.Select((request, index) => (request.Description, (IStandingConsumer)new Consumer(this, index)))];
    }

    internal void Add(StandingEnabling standing) => _standing = [.. _standing, standing];

    private Member Find(TracedProcess process, ProcessImage image)
    {
        lock (_gate)
        {
            if (!_members.TryGetValue(image, out Member? member))
            {
                TResult result = _query.Compile(out IReadOnlyList<ProbeRequest> requests);
                _members.Add(image, member = new Member(process, result, requests));
            }

            return member;
        }
    }

    private Task StartAsync(ProcessImage image)
    {
        lock (_gate)
        {
            if (!_members.TryGetValue(image, out Member? member) || member.IsStarted || _started is null)
            {
                return Task.CompletedTask;
            }

            member.IsStarted = true;
            return member.Call(() => Tell(_started, member));
        }
    }

    private void Leave(ProcessImage image)
    {
        lock (_gate)
        {
            if (!_members.Remove(image, out Member? member))
            {
                return;
            }

            _leaving.Add(member);
            _ = member.Call(() => End(member));
        }
    }

    private void End(Member member)
    {
        Tell(_ended, member);
        lock (_gate)
        {
            member.IsOver = true;
            Fold();
        }
    }

    /// <summary>What has ended goes, once nobody reads it any more. Under the gate.</summary>
    private void Fold()
    {
        foreach (Member member in _leaving.Where(m => m.IsOver && !m.Result.IsBeingRead).ToArray())
        {
            _leaving.Remove(member);
            _endedCount += member.Result.Count;
        }
    }

    [SuppressMessage("Design", "CA1031", Justification = "Kept for the consumer: a process must not be held for ever by an error of a callback.")]
    private void Tell(Action<TracedProcess, TResult>? callback, Member member)
    {
        try
        {
            callback?.Invoke(member.Process, member.Result);
        }
        catch (Exception e)
        {
            Volatile.Write(ref _lastCallbackException, e);
        }
    }

    /// <summary>One program image.</summary>
    private sealed class Member(TracedProcess process, TResult result, IReadOnlyList<ProbeRequest> requests)
    {
        public TracedProcess Process { get; } = process;

        public TResult Result { get; } = result;

        public IReadOnlyList<ProbeRequest> Requests { get; } = requests;

        public bool IsStarted { get; set; }

        /// <summary>Whether the last callback has returned.</summary>
        public bool IsOver { get; set; }

        /// <summary>The last of its callbacks, each of which waits for the one before.</summary>
        public Task Calls { get; private set; } = Task.CompletedTask;

        public Task Call(Action callback) => Calls = Calls.ContinueWith(
            _ => callback(), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
    }

    /// <summary>What one of the descriptions does.</summary>
    private sealed class Consumer(StandingResult<TResult> owner, int index) : IStandingConsumer
    {
        public ProbeOptions OptionsFor(TracedProcess process, ProcessImage image) => owner.Find(process, image).Requests[index].Options!;

        public void OnMade(ProcessImage image, ProbeEnabling enabling)
        {
            lock (owner._gate)
            {
                if (owner._members.TryGetValue(image, out Member? member))
                {
                    member.Result.Add(enabling);
                }
            }
        }

        public Task OnEnabledAsync(ProcessImage image) => owner.StartAsync(image);

        public void OnLeft(ProcessImage image) => owner.Leave(image);
    }
}
