using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>Counts hits by user stack.</summary>
internal sealed class StackVerb(ToolOptions options, ResultWriter results) : Verb(options, results)
{
    private readonly List<StackRecorder> _recorders = [];

    protected override Task<IReadOnlyList<ProbeRequest>> RequestsAsync(TracedProcess process, CancellationToken cancellationToken)
    {
        StackRecorder recorder = new(process, Options.StackDepth);
        _recorders.Add(recorder);
        ProbeOptions options = new() { OnHit = recorder.OnHit };
        return Task.FromResult<IReadOnlyList<ProbeRequest>>([.. Options.Descriptions.Select(description => new ProbeRequest(description, options))]);
    }

    protected override void Finish(Session session)
    {
        foreach (StackRecorder recorder in _recorders)
        {
            Print(recorder);
            if (recorder.Dropped > 0)
            {
                Console.Error.WriteLine($"fasttrap: {recorder.Dropped} hits had stacks beyond the first 200,000 different ones, which were not kept.");
            }
        }

        if (_recorders.TrueForAll(recorder => recorder.Counts.Count == 0))
        {
            Console.Error.WriteLine("fasttrap: none of the probes was hit.");
        }
    }

    private void Print(StackRecorder recorder)
    {
        // Different addresses may have one name each frame; what reads the same is counted together.
        Dictionary<(ulong Address, bool IsCaller), string> names = [];
        Dictionary<string, (string[] Frames, long Count)> merged = [];
        foreach ((ulong[] stack, long count) in recorder.Counts)
        {
            string[] frames = [.. stack.Select((address, index) => Name(recorder.Process, names, address, index > 0))];
            string key = string.Join('\n', frames);
            merged[key] = (frames, count + merged.GetValueOrDefault(key).Count);
        }

        foreach ((string[] frames, long count) in merged.Values.OrderBy(entry => entry.Count))
        {
            if (Options.Json)
            {
                Results.Json((recorder.Process.ProcessId, frames, count), static (json, entry) =>
                {
                    json.WriteNumber("pid", entry.ProcessId);
                    json.WriteStartArray("stack");
                    foreach (string frame in entry.frames)
                    {
                        json.WriteStringValue(frame);
                    }

                    json.WriteEndArray();
                    json.WriteNumber("count", entry.count);
                });
            }
            else if (Options.Folded)
            {
                Results.Line($"{string.Join(';', frames.Reverse().Select(frame => frame.Replace(';', ',')))} {count}");
            }
            else
            {
                foreach (string frame in frames)
                {
                    Results.Line("              " + frame);
                }

                Results.Line($"{count,12}");
                Results.Line();
            }
        }
    }

    /// <summary>A frame's text. A return address may be the next function's first byte, so callers are looked up one byte before it.</summary>
    private string Name(TracedProcess process, Dictionary<(ulong Address, bool IsCaller), string> names, ulong address, bool isCaller)
    {
        if (names.TryGetValue((address, isCaller), out string? name))
        {
            return name;
        }

        if (!process.TryResolve(isCaller ? address - 1 : address, out CodeLocation location))
        {
            name = $"0x{address:x}";
        }
        else if (location.DisplayFunction is not string function)
        {
            name = $"{location.Module}+0x{location.Offset + (isCaller ? 1u : 0u):x}";
        }
        else
        {
            // Flame graphs join frames by their text, so offsets would split functions.
            ulong offset = location.Offset + (isCaller ? 1u : 0u);
            name = Options.Folded || offset == 0 ? $"{location.Module}`{function}" : $"{location.Module}`{function}+0x{offset:x}";
        }

        names.Add((address, isCaller), name);
        return name;
    }
}
