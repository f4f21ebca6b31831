using System.Diagnostics;
using System.Threading.Channels;

namespace FastTrap;

/// <summary>
/// A subscription to what happens to the processes of a tracer, made by <see cref="Tracer.Subscribe"/>. No event since then is lost; those of one process come in
/// the kernel's order. What is not read is kept in memory.
/// </summary>
/// <remarks>Thread-safe; one reader at a time. Source: dt_proc.c, dt_proc_notify and the pending notifications.</remarks>
public sealed class ProcessEvents : IAsyncEnumerable<ProcessEvent>, IDisposable
{
    private readonly Channel<ProcessEvent> _channel = Channel.CreateUnbounded<ProcessEvent>(new UnboundedChannelOptions { SingleReader = false });
    private readonly Roster _roster;

    internal ProcessEvents(Roster roster) => _roster = roster;

    /// <summary>Takes an event that has come already; false if there is none.</summary>
    public bool TryRead([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out ProcessEvent? processEvent) => _channel.Reader.TryRead(out processEvent);

    /// <summary>Waits for the next event and takes it.</summary>
    /// <exception cref="ChannelClosedException">The subscription or the tracer was disposed, and all was read.</exception>
    public ValueTask<ProcessEvent> ReadAsync(CancellationToken cancellationToken = default) => _channel.Reader.ReadAsync(cancellationToken);

    /// <summary>Reads events until the subscription or the tracer is disposed.</summary>
    public IAsyncEnumerator<ProcessEvent> GetAsyncEnumerator(CancellationToken cancellationToken = default) =>
        _channel.Reader.ReadAllAsync(cancellationToken).GetAsyncEnumerator(cancellationToken);

    /// <summary>Ends the subscription; what has come can still be read.</summary>
    public void Dispose()
    {
        _roster.Remove(this);
        Complete();
    }

    internal void Publish(ProcessEvent processEvent) => _channel.Writer.TryWrite(processEvent);

    internal void Complete() => _channel.Writer.TryComplete();

    internal static long Now => Stopwatch.GetTimestamp() * (1_000_000_000 / Stopwatch.Frequency);
}
