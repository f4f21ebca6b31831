using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>Measures the time from entry to return of functions.</summary>
internal sealed class LatencyVerb : Verb
{
    private static readonly string[] s_names = ["entry", "return"];
    private readonly List<LatencyRecorder> _recorders = [];

    public LatencyVerb(ToolOptions options, ResultWriter results)
        : base(options, results)
    {
        ProbeDescription? wrong = options.Descriptions.FirstOrDefault(description => description.Name is not ("" or "*" or "entry" or "return"));
        if (wrong is not null)
        {
            throw new UsageException($"latency measures whole functions; '{wrong}' names a point in one. Write module:function:entry.");
        }
    }

    protected override IReadOnlyList<ProbeRequest> Requests(TracedProcess process)
    {
        LatencyRecorder recorder = new();
        _recorders.Add(recorder);
        ProbeOptions options = new() { OnHit = recorder.OnHit };

        // malloc:entry and malloc:return ask for the same.
        return [.. Options.Descriptions
            .Select(d => (d.Provider, d.Module, d.Function)).Distinct()
            .SelectMany(d => s_names.Select(name => new ProbeRequest(new ProbeDescription(d.Provider, d.Module, d.Function, name), options)))];
    }

    protected override void Finish(Session session)
    {
        List<FunctionLatency> all = [.. _recorders.SelectMany(recorder => recorder.Functions).OrderBy(latency => latency.Times.Sum)];
        foreach (FunctionLatency latency in all)
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

        if (all.Count == 0)
        {
            Console.Error.WriteLine("fasttrap: none of the functions was called.");
        }
    }

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
