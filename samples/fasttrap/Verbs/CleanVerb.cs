using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>Removes what a tracer that was killed, or has let go, has left in processes: attaching does so.</summary>
internal sealed class CleanVerb(ToolOptions options, ResultWriter results) : Verb(options, results)
{
    public override async Task<int> RunAsync(StopRequest stop)
    {
        Tracer tracer = new();
        await using (tracer.ConfigureAwait(false))
        {
            bool isAllClean = true;
            foreach (int processId in Options.ProcessIds)
            {
                TracedProcess process = await tracer.AttachAsync(processId, null, stop.Token).ConfigureAwait(false);
                await using (process.ConfigureAwait(false))
                {
                    Print(processId, process.Leftovers);
                    isAllClean &= process.Leftovers is null or { MappingsLeft: 0 };
                }
            }

            return isAllClean ? 0 : 1;
        }
    }

    protected override void Finish(Session session)
    {
    }

    private void Print(int processId, ProcessLeftovers? left)
    {
        if (Options.Json)
        {
            Results.Json((processId, left), static (writer, found) =>
            {
                writer.WriteNumber("pid", found.processId);
                writer.WriteNumber("probesRemoved", found.left?.ProbesRemoved ?? 0);
                writer.WriteNumber("mappingsRemoved", found.left?.MappingsRemoved ?? 0);
                writer.WriteNumber("mappingsLeft", found.left?.MappingsLeft ?? 0);
            });
            return;
        }

        Results.Line(left is null
            ? $"{processId}: nothing was left in it"
            : $"{processId}: {left.ProbesRemoved} probes and {left.MappingsRemoved} mappings of process {left.OwnerProcessId} removed"
                + (left.MappingsLeft == 0 ? "" : $"; {left.MappingsLeft} mappings stay, for a thread may come back to them: try again later"));
    }
}
