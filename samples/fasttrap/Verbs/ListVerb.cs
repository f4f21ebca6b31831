using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>Lists matching probes of processes, or of a file.</summary>
internal sealed class ListVerb(ToolOptions options, ResultWriter results) : Verb(options, results)
{
    public override async Task<int> RunAsync(StopRequest stop)
    {
        int found = 0;
        if (Options.File is string file)
        {
            foreach (ProbeDescription description in Options.Descriptions)
            {
                found += Print(await Progress.WatchAsync($"reading {file}", Task.Run(() => Tracer.ListFile(file, description), stop.Token)).ConfigureAwait(false));
            }
        }
        else
        {
            Session session = await Session.OpenAsync(Options, stop).ConfigureAwait(false);
            await using (session.ConfigureAwait(false))
            {
                foreach (TracedProcess process in session.Processes)
                {
                    foreach (ProbeDescription description in Options.Descriptions)
                    {
                        found += Print(await Progress.WatchAsync(
                            $"reading symbols of {process.ProcessId}", process.ListAsync(description, stop.Token)).ConfigureAwait(false));
                    }
                }

                if (found == 0)
                {
                    foreach (ProbeDescription description in Options.Descriptions)
                    {
                        await Console.Error.WriteLineAsync($"fasttrap: {session.Processes[0].ExplainNoMatch(description)}").ConfigureAwait(false);
                    }
                }

                await session.ResumeAsync().ConfigureAwait(false);
                Results.Flush();
                int code = await session.CloseAsync().ConfigureAwait(false);
                return found > 0 ? code : 1;
            }
        }

        Results.Flush();
        return found > 0 ? 0 : Nothing();
    }

    protected override void Finish(Session session)
    {
        // Listing enables nothing, so nothing is to be finished.
    }

    private static int Nothing()
    {
        Console.Error.WriteLine("fasttrap: no probe matches. Use globs, for example '*malloc*:entry'; a stripped file has only the functions it exports.");
        return 1;
    }

    private int Print(IReadOnlyList<ProbeInfo> probes)
    {
        foreach (ProbeInfo probe in probes)
        {
            if (Options.Json)
            {
                Results.Json(probe, static (json, probe) =>
                {
                    json.WriteString("probe", probe.ToString());
                    json.WriteString("provider", probe.Provider);
                    json.WriteString("module", probe.Module);
                    json.WriteString("function", probe.Function);
                    json.WriteString("displayFunction", probe.DisplayFunction);
                    json.WriteString("name", probe.Name);
                    json.WriteNumber("address", probe.Address);
                    json.WriteNumber("sites", probe.SiteCount);
                    json.WriteStartArray("arguments");
                    foreach (ArgumentDescription argument in probe.Arguments)
                    {
                        json.WriteStartObject();
                        json.WriteString("type", argument.TranslatedType);
                        json.WriteString("nativeType", argument.NativeType);
                        json.WriteString("location", argument.Location);
                        json.WriteEndObject();
                    }

                    json.WriteEndArray();
                });
            }
            else
            {
                string display = probe.DisplayFunction == probe.Function ? "" : $"  {probe.DisplayFunction}";
                Results.Line($"{probe.Address:x16}  {probe}{display}{ArgumentText.Describe(probe.Arguments)}");
            }
        }

        return probes.Count;
    }
}
