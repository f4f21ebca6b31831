using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>Counts hits by probe; a live table on a terminal.</summary>
internal sealed class CountVerb(ToolOptions options, ResultWriter results) : Verb(options, results)
{
    private readonly LiveScreen _screen = new(results);

    protected override IReadOnlyList<ProbeRequest> Requests(TracedProcess process)
    {
        // Neither a handler nor a buffer: the library itself counts.
        ProbeOptions countOnly = new() { Buffered = false };
        return [.. Options.Descriptions.Select(description => new ProbeRequest(description, countOnly))];
    }

    protected override Task ObserveAsync(Session session)
    {
        // A started command writes to the same terminal, and redrawing would take away its lines.
        bool isLive = Results.IsTerminal && !Options.Json && Options.Command.Count == 0;
        return session.RunAsync(TimeSpan.FromSeconds(0.5), isLive ? () => Redraw(session) : static () => { });
    }

    protected override void Finish(Session session)
    {
        _screen.Clear();
        List<(string Probe, long Count)> rows = Rows(session);
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
            int probes = Probes(session);
            Console.Error.WriteLine(probes == 1 ? "fasttrap: the probe was not hit."
                : session.Standing.Count > 0 ? "fasttrap: no probe was hit." : $"fasttrap: none of the {probes} probes was hit.");
        }
    }

    private static IEnumerable<string> Table(IEnumerable<(string Probe, long Count)> rows) => rows.Select(row => $"{row.Count,12}  {row.Probe}");

    private static int Probes(Session session) => session.Enablings.Concat(session.Standing.SelectMany(standing => standing.Members)).Sum(enabling => enabling.Probes.Count);

    private void Redraw(Session session)
    {
        List<(string Probe, long Count)> rows = Rows(session);
        int room = LiveScreen.Height - 2;
        string summary = $"{rows.Sum(row => row.Count),12}  hits of {Probes(session)} probes; Ctrl-C ends";
        _screen.Draw([.. Table(rows.Take(room)), summary]);
    }

    /// <summary>Counts by probe, most hit first. A probe that several descriptions match counts once.</summary>
    private List<(string Probe, long Count)> Rows(Session session)
    {
        Dictionary<string, long> counts = [];
        foreach (ProbeEnabling enabling in session.Enablings)
        {
            foreach (Probe probe in enabling.Probes)
            {
                long count = enabling.GetHitCount(probe);
                if (count > 0 || Options.All)
                {
                    string name = probe.ToString();
                    counts[name] = Math.Max(count, counts.GetValueOrDefault(name));
                }
            }
        }

        foreach ((string name, long count) in session.Standing.SelectMany(standing => standing.GetHitCounts()))
        {
            // Over all processes; without their ids.
            if (count > 0 || Options.All)
            {
                counts[name] = Math.Max(count, counts.GetValueOrDefault(name));
            }
        }

        return [.. counts.Select(pair => (pair.Key, pair.Value)).OrderByDescending(row => row.Value).ThenBy(row => row.Key, StringComparer.Ordinal)];
    }
}
