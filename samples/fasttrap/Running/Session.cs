using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Queries;

namespace FastTrap.Tool.Running;

/// <summary>The tracer and its processes from opening to the exit code. Used by one verb, in order: open, enable, run, close.</summary>
internal sealed class Session : IAsyncDisposable
{
    private readonly ToolOptions _options;
    private readonly Tracer _tracer = new();
    private readonly List<TracedProcess> _processes = [];
    private readonly List<ProbeEnabling> _enablings = [];
    private readonly ThreadLooks _looks = new();
    private QuerySet? _queries;
    private readonly MechanismTotals _handled = new();
    private Task<double?>? _trial;

    private Session(ToolOptions options, StopRequest stop)
    {
        _options = options;
        Stop = stop;
    }

    public StopRequest Stop { get; }

    public IReadOnlyList<TracedProcess> Processes => _processes;

    public IReadOnlyList<ProbeEnabling> Enablings => _enablings;

    /// <summary>Attaches to the processes, or starts the command.</summary>
    public static async Task<Session> OpenAsync(ToolOptions options, StopRequest stop)
    {
        Session session = new(options, stop);

        // The library, too, looks at signals since there is a tracer.
        stop.Renew();
        try
        {
            foreach (int processId in options.ProcessIds)
            {
                await session.AttachAsync(processId).ConfigureAwait(false);
            }

            if (options.Command.Count > 0)
            {
                CreateOptions create = new() { KillOnDispose = false, FollowChildren = options.Follow, StopAt = options.Follow ? CreateStop.Exec : CreateStop.Entry };
                session._processes.Add(await Progress.WatchAsync(
                    $"starting {options.Command[0]}",
                    session._tracer.CreateAsync(options.Command[0], [.. options.Command.Skip(1)], create, stop.Token)).ConfigureAwait(false));
            }

            return session;
        }
        catch
        {
            await session.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Enables in every process what is asked for it, reports refusals, and lets a started command go.</summary>
    /// <param name="requestsOf">The requests of handlers for one process; there may be none. Not asked with <c>--follow</c>, where all is done by queries.</param>
    /// <param name="queries">The queries; null: there are none.</param>
    /// <exception cref="FastTrapException">No process has a probe that matches.</exception>
    public async Task EnableAsync(Func<TracedProcess, CancellationToken, Task<IReadOnlyList<ProbeRequest>>> requestsOf, QuerySet? queries)
    {
        _queries = queries;
        if (_options.Follow)
        {
            if (queries is not null)
            {
                await Progress.WatchAsync("enabling probes", queries.EnableEverywhereAsync(_tracer, Stop.Token)).ConfigureAwait(false);
            }

            await ResumeAsync().ConfigureAwait(false);
            return;
        }

        int enabled = 0;
        FastTrapException? noMatch = null;
        foreach (TracedProcess process in _processes)
        {
            try
            {
                await Progress.WatchAsync($"enabling probes in {process.ProcessId}", EnableInAsync(process, requestsOf, queries)).ConfigureAwait(false);
                enabled++;
            }
            catch (FastTrapException exception) when (exception.Error == FastTrapError.NoMatch && _processes.Count > 1)
            {
                // With several processes it is enough that some have it.
                noMatch = exception;
                await Console.Error.WriteLineAsync($"fasttrap: {exception.Message}").ConfigureAwait(false);
            }
        }

        if (enabled == 0 && noMatch is not null)
        {
            throw noMatch;
        }

        FailureReport.Write([.. _enablings.SelectMany(enabling => enabling.Failures), .. queries?.Failures ?? []], _options.Verbose);
        await ResumeAsync().ConfigureAwait(false);
    }

    /// <summary>Lets a started command go, and starts the clock of <c>--duration</c>.</summary>
    public async Task ResumeAsync()
    {
        foreach (TracedProcess process in _processes)
        {
            if (process.WasCreated)
            {
                await process.ResumeAsync().ConfigureAwait(false);
            }
        }

        // Another program meanwhile tells what is to be expected of stops.
        bool hasStops = _enablings.Count != 0 || _queries?.Totals.All.Any(entry => entry.Mechanism != ProbeMechanism.Jump) == true;
        _trial = hasStops ? BreakpointTrial.RunAsync() : null;
        if (_options.Duration is TimeSpan duration)
        {
            Stop.RequestAfter(duration);
        }
    }

    /// <summary>Runs until a signal, the duration's end, or the end of all processes; calls back now and then.</summary>
    public async Task RunAsync(TimeSpan interval, Action tick)
    {
        Task allEnded = Task.WhenAll(_processes.Select(process => process.Completion));
        using CancellationTokenSource end = new();
        Task looking = _queries is { } queries ? _looks.RunAsync(() => _tracer.Processes, () => queries.Totals.CodeHits, end.Token) : Task.CompletedTask;
        using PeriodicTimer timer = new(interval);
        try
        {
            while (!allEnded.IsCompleted)
            {
                Task<bool> next = timer.WaitForNextTickAsync(Stop.Token).AsTask();
                await Task.WhenAny(allEnded, next).ConfigureAwait(false);
                if (!allEnded.IsCompleted)
                {
                    await next.ConfigureAwait(false);
                    tick();
                }
            }
        }
        catch (OperationCanceledException) when (Stop.Token.IsCancellationRequested)
        {
            // The way in which a run usually ends.
            return;
        }
        finally
        {
            await end.CancelAsync().ConfigureAwait(false);
            await looking.ConfigureAwait(false);
        }
    }

    /// <summary>Removes all probes; afterwards no handler runs, and counts are final. The processes stay attached.</summary>
    public async Task DisableAsync()
    {
        if (_queries is not null)
        {
            await _queries.DisableAsync().ConfigureAwait(false);
        }

        foreach (ProbeEnabling enabling in _enablings)
        {
            _handled.Add(enabling.GetCosts());
        }

        foreach (FastTrapException failure in (_queries?.ProcessFailures ?? []).DistinctBy(failure => failure.Message).Take(10))
        {
            await Console.Error.WriteLineAsync($"fasttrap: {failure.Message}").ConfigureAwait(false);
        }

        FailureReport.Write(_options.Follow ? _queries?.Failures ?? [] : [], _options.Verbose);
        foreach (TracedProcess process in _processes.Where(process => process.Executions > 0 && !_options.Follow))
        {
            await Console.Error.WriteLineAsync(
                $"fasttrap: process {process.ProcessId} executed another program, and the probes ended there. If {process.ExecutablePath} is a wrapper, name the program itself, or attach to it with -p.").ConfigureAwait(false);
        }

        foreach (ProbeEnabling enabling in _enablings)
        {
            await enabling.DisposeAsync().ConfigureAwait(false);
            await ComplainAsync(enabling.Description, enabling.HandlerErrors, enabling.LastHandlerException).ConfigureAwait(false);
        }
    }

    /// <summary>Says what hits have cost. After <see cref="DisableAsync"/>.</summary>
    public async Task ReportCostsAsync()
    {
        if (_queries is not null)
        {
            _handled.Add(_queries.Totals);
        }

        double? trialNs = _trial is null ? null : await _trial.ConfigureAwait(false);
        CostReport.Write(_handled, _looks, trialNs, _options);
    }

    /// <summary>Waits for a started command, detaches from everything, and gives our exit code.</summary>
    public async Task<int> CloseAsync()
    {
        int code = 0;
        TracedProcess? command = _processes.Find(process => process.WasCreated);
        if (command is not null)
        {
            try
            {
                ProcessExit exit = await command.Completion.WaitAsync(Stop.LeaveToken).ConfigureAwait(false);
                code = exit.ShellExitCode;
            }
            catch (OperationCanceledException) when (Stop.LeaveToken.IsCancellationRequested)
            {
                await Console.Error.WriteLineAsync($"fasttrap: process {command.ProcessId} goes on without us.").ConfigureAwait(false);
                code = 128 + Stop.Signal;
            }
        }

        await DisposeAsync().ConfigureAwait(false);
        return code;
    }

    /// <summary>Attaches to one of the processes. Of several, one that does not exist is left out, unless it is the last hope.</summary>
    private async Task AttachAsync(int processId)
    {
        AttachOptions attach = new() { FollowChildren = _options.Follow, IncludeDescendants = _options.Follow };
        try
        {
            TracedProcess process = await Progress.WatchAsync($"attaching to {processId}", _tracer.AttachAsync(processId, attach, Stop.Token)).ConfigureAwait(false);
            _processes.Add(process);
            foreach (FastTrapException refusal in process.RefusedDescendants)
            {
                await Console.Error.WriteLineAsync($"fasttrap: left out: {refusal.Message}").ConfigureAwait(false);
            }
        }
        catch (FastTrapException exception) when (
            exception.Error is FastTrapError.NoSuchProcess or FastTrapError.Zombie or FastTrapError.ProcessEnded
            && (_processes.Count > 0 || processId != _options.ProcessIds[^1]))
        {
            await Console.Error.WriteLineAsync($"fasttrap: left out: {exception.Message}").ConfigureAwait(false);
        }
    }

    private async Task EnableInAsync(TracedProcess process, Func<TracedProcess, CancellationToken, Task<IReadOnlyList<ProbeRequest>>> requestsOf, QuerySet? queries)
    {
        IReadOnlyList<ProbeRequest> requests = await requestsOf(process, Stop.Token).ConfigureAwait(false);
        if (requests.Count != 0)
        {
            _enablings.AddRange(await process.EnableAsync(requests, Stop.Token).ConfigureAwait(false));
        }

        if (queries is not null)
        {
            await queries.EnableInAsync(process, Stop.Token).ConfigureAwait(false);
        }
    }

    private static async Task ComplainAsync(ProbeDescription description, long errors, Exception? last)
    {
        if (errors > 0)
        {
            await Console.Error.WriteLineAsync($"fasttrap: {errors} hits of {description} could not be handled: {last?.Message}").ConfigureAwait(false);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (TracedProcess process in _processes)
        {
            await process.DisposeAsync().ConfigureAwait(false);
        }

        _processes.Clear();
        await _tracer.DisposeAsync().ConfigureAwait(false);
        if (_trial is not null)
        {
            await _trial.ConfigureAwait(false);
        }
    }
}
