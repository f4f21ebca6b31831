using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Queries;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>Counts hits by probe; a live table on a terminal.</summary>
internal sealed class CountVerb : Verb
{
    private readonly LiveScreen _screen;
    private readonly QuerySet<ProbeTally> _tallies;

    /// <summary>With <c>--follow</c>: the counts of programs that have ended, by description. Guards itself.</summary>
    private readonly Dictionary<ProbeDescription, Dictionary<string, long>> _ended = [];

    public CountVerb(ToolOptions options, ResultWriter results)
        : base(options, results)
    {
        _screen = new LiveScreen(results);
        _tallies = new QuerySet<ProbeTally>(options.Descriptions, description => ProbeQuery.On(description).WithMechanism(options.Mechanism).CountByProbe())
        {
            Ended = tally =>
            {
                lock (_ended)
                {
                    Add(tally, _ended);
                }
            },
        };
    }

    protected override QuerySet Queries => _tallies;

    protected override Task ObserveAsync(Session session)
    {
        // A started command writes to the same terminal, and redrawing would take away its lines.
        bool isLive = Results.IsTerminal && !Options.Json && Options.Command.Count == 0;
        return session.RunAsync(TimeSpan.FromSeconds(0.5), isLive ? Redraw : static () => { });
    }

    protected override void Finish(Session session)
    {
        _screen.Clear();
        List<(string Probe, long Count)> rows = Rows();
        if (Options.Json)
        {
            foreach ((string Probe, long Count) row in rows)
            {
                Results.Json(row, static (json, row) =>
                {
                    json.WriteString("probe", row.Probe);
                    json.WriteNumber("count", row.Count);
                });
            }

            return;
        }

        foreach (string line in Table(rows))
        {
            Results.Line(line);
        }

        if (rows.Count == 0)
        {
            int probes = _tallies.ProbeCount;
            Console.Error.WriteLine(Options.Follow ? "fasttrap: no probe was hit."
                : probes == 1 ? "fasttrap: the probe was not hit." : $"fasttrap: none of the {probes} probes was hit.");
        }
    }

    private static IEnumerable<string> Table(IEnumerable<(string Probe, long Count)> rows) => rows.Select(row => $"{row.Count,12}  {row.Probe}");

    private void Redraw()
    {
        List<(string Probe, long Count)> rows = Rows();
        int room = LiveScreen.Height - 2;
        string summary = $"{rows.Sum(row => row.Count),12}  hits of {_tallies.ProbeCount} probes; Ctrl-C ends";
        _screen.Draw([.. Table(rows.Take(room)), summary]);
    }

    /// <summary>Counts by probe, most hit first. A probe that several descriptions match counts once.</summary>
    private List<(string Probe, long Count)> Rows()
    {
        Dictionary<ProbeDescription, Dictionary<string, long>> all = [];
        lock (_ended)
        {
            foreach ((ProbeDescription description, Dictionary<string, long> counts) in _ended)
            {
                all.Add(description, new Dictionary<string, long>(counts));
            }
        }

        foreach (QueryResult<ProbeTally> tally in _tallies.Results)
        {
            Add(tally, all);
        }

        Dictionary<string, long> rows = [];
        foreach ((string probe, long count) in all.Values.SelectMany(counts => counts))
        {
            if (count > 0 || Options.All)
            {
                rows[probe] = Math.Max(count, rows.GetValueOrDefault(probe));
            }
        }

        return [.. rows.Select(pair => (pair.Key, pair.Value)).OrderByDescending(row => row.Value).ThenBy(row => row.Key, StringComparer.Ordinal)];
    }

    private void Add(QueryResult<ProbeTally> tally, Dictionary<ProbeDescription, Dictionary<string, long>> all)
    {
        if (!all.TryGetValue(tally.Description, out Dictionary<string, long>? counts))
        {
            all.Add(tally.Description, counts = []);
        }

        if (Options.All)
        {
            foreach (Probe probe in tally.Result.Enablings.SelectMany(enabling => enabling.Probes))
            {
                counts.TryAdd(NameOf(tally, probe), 0);
            }
        }

        foreach ((Probe probe, long count) in tally.Result.GetCounts())
        {
            string name = NameOf(tally, probe);
            counts[name] = counts.GetValueOrDefault(name) + count;
        }
    }

    /// <summary>With <c>--follow</c> over all processes: without their ids.</summary>
    private string NameOf(QueryResult<ProbeTally> tally, Probe probe)
    {
        string id = $"{tally.Process.ProcessId}";
        string provider = Options.Follow && probe.Provider.EndsWith(id, StringComparison.Ordinal) ? probe.Provider[..^id.Length] : probe.Provider;
        return $"{provider}:{probe.Module}:{probe.Function}:{probe.Name}";
    }
}
