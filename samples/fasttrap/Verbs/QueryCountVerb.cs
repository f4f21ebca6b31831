using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary><c>count --mechanism</c>: hits of each description, counted by code in the target where that can be had, and by which mechanisms.</summary>
internal sealed class QueryCountVerb(ToolOptions options, ResultWriter results) : Verb(options, results)
{
    public override async Task<int> RunAsync(StopRequest stop)
    {
        Session session = await Session.OpenAsync(Options, stop).ConfigureAwait(false);
        await using (session.ConfigureAwait(false))
        {
            List<(TracedProcess Process, ProbeDescription Description, ProbeSum Hits)> counts = [];
            foreach (TracedProcess process in session.Processes)
            {
                foreach (ProbeDescription description in Options.Descriptions)
                {
                    ProbeSum hits = await process.On(description).WithMechanism(Options.Mechanism!.Value).Count().EnableAsync(stop.Token).ConfigureAwait(false);
                    FailureReport.Write([.. hits.Enablings.SelectMany(e => e.Failures)], Options.Verbose);
                    counts.Add((process, description, hits));
                }
            }

            await session.ResumeAsync().ConfigureAwait(false);
            await ObserveAsync(session).ConfigureAwait(false);
            foreach ((TracedProcess process, ProbeDescription description, ProbeSum hits) in counts)
            {
                ProbeMechanisms mechanisms = hits.Mechanisms;
                await hits.DisposeAsync().ConfigureAwait(false);
                Write(process, description, hits.Count, mechanisms);
            }

            Results.Flush();
            return await session.CloseAsync().ConfigureAwait(false);
        }
    }

    protected override IReadOnlyList<ProbeRequest> Requests(TracedProcess process) => [];

    protected override void Finish(Session session)
    {
        // All was written when the queries were disposed.
    }

    private void Write(TracedProcess process, ProbeDescription description, long count, ProbeMechanisms mechanisms)
    {
        if (Options.Json)
        {
            Results.Json((process.ProcessId, description, count, mechanisms), static (json, row) =>
            {
                json.WriteNumber("pid", row.ProcessId);
                json.WriteString("description", row.description.ToString());
                json.WriteNumber("count", row.count);
                json.WriteNumber("jump", row.mechanisms.Jump);
                json.WriteNumber("breakpoint", row.mechanisms.Breakpoint);
            });
            return;
        }

        Results.Line($"{count,12}  {description} in {process.ProcessId}: {mechanisms.Jump} instructions by jump, {mechanisms.Breakpoint} by breakpoint");
        if (Options.Verbose)
        {
            foreach ((string reason, int number) in mechanisms.Reasons.OrderByDescending(r => r.Value))
            {
                Results.Line($"{"",12}  {number} by breakpoint because {reason}");
            }
        }
    }
}
