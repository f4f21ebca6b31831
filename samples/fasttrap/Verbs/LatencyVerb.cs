using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Queries;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>Measures the time from entry to return of functions.</summary>
internal sealed class LatencyVerb : Verb
{
    /// <summary>More functions than this are timed by handlers: each has memory of its own in the program.</summary>
    private const int MostQueries = 64;

    private static readonly string[] s_names = ["entry", "return"];
    private readonly List<LatencyRecorder> _recorders = [];
    private readonly Dictionary<TracedProcess, IReadOnlyList<ProbeDescription>> _functions = [];
    private readonly QuerySet<ProbeLatencies> _latencies;

    public LatencyVerb(ToolOptions options, ResultWriter results)
        : base(options, results)
    {
        ProbeDescription? wrong = options.Descriptions.FirstOrDefault(description => description.Name is not ("" or "*" or "entry" or "return"));
        if (wrong is not null)
        {
            throw new UsageException($"latency measures whole functions; '{wrong}' names a point in one. Write module:function:entry.");
        }

        _latencies = new QuerySet<ProbeLatencies>([], description => ProbeQuery.On(description).WithMechanism(options.Mechanism).Latency()) { Expand = process => _functions[process] };
    }

    protected override QuerySet Queries => _latencies;

    /// <summary>A query for each function that is meant; or, of many, one recorder for all.</summary>
    protected override async Task<IReadOnlyList<ProbeRequest>> RequestsAsync(TracedProcess process, CancellationToken cancellationToken)
    {
        // malloc:entry and malloc:return ask for the same.
        (string Provider, string Module, string Function)[] asked = [.. Options.Descriptions.Select(d => (d.Provider, d.Module, d.Function)).Distinct()];
        HashSet<ProbeDescription> functions = [];
        foreach ((string provider, string module, string function) in asked)
        {
            ProbeDescription entries = new(provider, module, function, "entry");
            IReadOnlyList<ProbeInfo> found = await process.ListAsync(entries, cancellationToken).ConfigureAwait(false);
            functions.UnionWith(found.Select(probe => new ProbeDescription(Glob.Escape(probe.Provider), Glob.Escape(probe.Module), Glob.Escape(probe.Function), "entry")));
            if (found.Count == 0)
            {
                // Enabling says what is wrong with it.
                functions.Add(entries);
            }
        }

        bool isMany = functions.Count > MostQueries;
        _functions[process] = isMany ? [] : [.. functions];
        if (!isMany)
        {
            return [];
        }

        if (Options.NeedsCode)
        {
            throw new UsageException($"latency by code in the program is for {MostQueries} functions at most, and {functions.Count} match.");
        }

        if (Options.Verbose)
        {
            await Console.Error.WriteLineAsync($"fasttrap: {functions.Count} functions match; more than {MostQueries} are timed by breakpoints.").ConfigureAwait(false);
        }

        LatencyRecorder recorder = new();
        _recorders.Add(recorder);
        ProbeOptions options = new() { OnHit = recorder.OnHit };
        return [.. asked.SelectMany(d => s_names.Select(name => new ProbeRequest(new ProbeDescription(d.Provider, d.Module, d.Function, name), options)))];
    }

    protected override void Finish(Session session)
    {
        IEnumerable<FunctionLatency> all = _recorders.SelectMany(recorder => recorder.Functions).Concat(_latencies.Results.DistinctBy(KeyOf).Select(FunctionLatency.Of).OfType<FunctionLatency>());
        FunctionLatency[] ordered = [.. all.OrderBy(latency => latency.Times.Sum)];
        foreach (FunctionLatency latency in ordered)
        {
            if (Options.Json)
            {
                PrintJson(latency);
            }
            else
            {
                Print(latency);
            }
        }

        if (ordered.Length == 0)
        {
            Console.Error.WriteLine("fasttrap: none of the functions was called.");
        }
    }

    /// <summary>Several names may be one function: the first speaks for all.</summary>
    private static object KeyOf(QueryResult<ProbeLatencies> query) =>
        query.Result.Enablings.SelectMany(enabling => enabling.Probes).FirstOrDefault() is { } probe ? (query.Process, probe.FunctionAddress) : query;

    private void Print(FunctionLatency latency)
    {
        Histogram times = latency.Times;
        string range = times.Count == 0
            ? "no complete call"
            : $"{times.Count} calls, total {Durations.Format(times.Sum)}, average {Durations.Format(times.Average)}, "
                + $"{Durations.Format(times.Minimum)} to {Durations.Format(times.Maximum)}";
        Results.Line($"{latency.Name}  {range}{(latency.Unmatched > 0 ? $", {latency.Unmatched} unmatched" : "")}");
        if (times.Count > 0)
        {
            foreach (string line in times.Draw())
            {
                Results.Line(line);
            }
        }

        Results.Line();
    }

    private void PrintJson(FunctionLatency latency) => Results.Json(latency, static (json, latency) =>
    {
        Histogram times = latency.Times;
        json.WriteString("function", latency.Name);
        json.WriteNumber("count", times.Count);
        json.WriteNumber("unmatched", latency.Unmatched);
        if (times.Count > 0)
        {
            json.WriteNumber("minimumNs", times.Minimum);
            json.WriteNumber("maximumNs", times.Maximum);
            json.WriteNumber("averageNs", Math.Round(times.Average, 1));
        }

        json.WriteStartArray("buckets");
        foreach ((long from, long to, long count) in times.Buckets())
        {
            json.WriteStartObject();
            json.WriteNumber("fromNs", from);
            json.WriteNumber("toNs", to);
            json.WriteNumber("count", count);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    });
}
