namespace FastTrap.Tests.Live.Trees;

/// <summary>Reads a tracer's events as they come and keeps what tests ask for.</summary>
internal sealed class EventLog : IAsyncDisposable
{
    private readonly ProcessEvents _events;
    private readonly Task _reading;
    private readonly List<ProcessEvent> _all = [];

    public EventLog(Tracer tracer)
    {
        _events = tracer.Subscribe();
        _reading = Task.Run(ReadAsync);
    }

    public IReadOnlyList<ProcessEvent> All
    {
        get
        {
            lock (_all)
            {
                return [.. _all];
            }
        }
    }

    public int Count(ProcessEventKind kind)
    {
        lock (_all)
        {
            return _all.Count(e => e.Kind == kind);
        }
    }

    /// <summary>Of a tracer that was disposed. Each process: born or joined first and once, ended last and once, what lies between in between.</summary>
    public async Task AssertInOrderAsync()
    {
        // The disposal ends the events; what came before is read first.
        await _reading;
        foreach (IGrouping<TracedProcess, ProcessEvent> life in All.GroupBy(e => e.Process))
        {
            ProcessEventKind[] kinds = [.. life.Select(e => e.Kind)];
            string text = string.Join(' ', kinds);
            Assert.That(kinds[0], Is.AnyOf(ProcessEventKind.Joined, ProcessEventKind.Forked), text);
            Assert.That(kinds.Skip(1), Has.None.EqualTo(ProcessEventKind.Joined).And.None.EqualTo(ProcessEventKind.Forked), text);
            Assert.That(kinds[^1], Is.EqualTo(ProcessEventKind.Ended), text);
            Assert.That(kinds.Count(k => k == ProcessEventKind.Ended), Is.EqualTo(1), text);
        }
    }

    public async ValueTask DisposeAsync()
    {
        _events.Dispose();
        await _reading;
    }

    private async Task ReadAsync()
    {
        await foreach (ProcessEvent processEvent in _events)
        {
            lock (_all)
            {
                _all.Add(processEvent);
            }
        }
    }
}
