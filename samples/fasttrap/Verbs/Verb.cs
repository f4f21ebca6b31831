using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Queries;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>What the tool can do. One object does one run.</summary>
internal abstract class Verb(ToolOptions options, ResultWriter results)
{
    protected ToolOptions Options { get; } = options;

    protected ResultWriter Results { get; } = results;

    public static Verb Create(ToolOptions options, ResultWriter results) => options.Verb switch
    {
        "list" => new ListVerb(options, results),
        "clean" => new CleanVerb(options, results),
        "trace" => new TraceVerb(options, results),
        "count" => new CountVerb(options, results),
        "latency" => new LatencyVerb(options, results),
        _ => new StackVerb(options, results),
    };

    /// <summary>Does it and gives the exit code.</summary>
    public virtual async Task<int> RunAsync(StopRequest stop)
    {
        Session session = await Session.OpenAsync(Options, stop).ConfigureAwait(false);
        await using (session.ConfigureAwait(false))
        {
            await session.EnableAsync(RequestsAsync, Queries).ConfigureAwait(false);
            await ObserveAsync(session).ConfigureAwait(false);
            await session.DisableAsync().ConfigureAwait(false);
            await DrainAsync().ConfigureAwait(false);
            Finish(session);
            Results.Flush();
            await session.ReportCostsAsync().ConfigureAwait(false);
            return await session.CloseAsync().ConfigureAwait(false);
        }
    }

    /// <summary>What is asked by queries; null: nothing.</summary>
    protected virtual QuerySet? Queries => null;

    /// <summary>What to enable in a process for handlers. Asked before the queries are enabled there.</summary>
    protected virtual Task<IReadOnlyList<ProbeRequest>> RequestsAsync(TracedProcess process, CancellationToken cancellationToken) => Task.FromResult<IReadOnlyList<ProbeRequest>>([]);

    /// <summary>Runs until it is time to stop.</summary>
    protected virtual Task ObserveAsync(Session session) => session.RunAsync(TimeSpan.FromSeconds(0.5), static () => { });

    /// <summary>The probes are removed: waits for what is still on its way.</summary>
    protected virtual Task DrainAsync() => Task.CompletedTask;

    /// <summary>Prints what was gathered. No handler runs any more; the processes can still be asked for names.</summary>
    protected abstract void Finish(Session session);
}
