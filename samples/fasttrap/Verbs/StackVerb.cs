using System.Collections.Concurrent;
using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Queries;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>Counts hits by user stack. What is walked at the hit comes as a record, which is folded here.</summary>
internal sealed class StackVerb : Verb
{
    /// <summary>Frames of all records that are kept for a reader.</summary>
    private const int KeptFrames = 1 << 22;

    private readonly ConcurrentDictionary<TracedProcess, StackRecorder> _recorders = [];
    private readonly RecordReaders<ulong[]> _readers;
    private readonly QuerySet<ProbeRecords<ulong[]>> _stacks;

    public StackVerb(ToolOptions options, ResultWriter results)
        : base(options, results)
    {
        int depth = options.StackDepth;
        _readers = new RecordReaders<ulong[]>((query, record) =>
        {
            _recorders.GetOrAdd(query.Process, static process => new StackRecorder(process)).Add(query, record);
            return ValueTask.FromResult(true);
        });
        _stacks = new QuerySet<ProbeRecords<ulong[]>>(
            options.Descriptions, description => ProbeQuery.On(description).WithMechanism(options.Mechanism).Record(c => c.Stack(depth), Math.Min(1 << 16, KeptFrames / depth)))
        {
            Started = _readers.Start,
        };
    }

    protected override QuerySet Queries => _stacks;

    protected override Task DrainAsync() => _readers.DrainAsync();

    protected override void Finish(Session session)
    {
        foreach (StackRecorder recorder in _recorders.Values.OrderBy(recorder => recorder.Process.ProcessId))
        {
            Print(recorder);
            if (recorder.Dropped > 0)
            {
                Console.Error.WriteLine($"fasttrap: {recorder.Dropped} hits had stacks beyond the first 200,000 different ones, which were not kept.");
            }
        }

        if (_readers.Lost > 0)
        {
            Console.Error.WriteLine($"fasttrap: {_readers.Lost} hits were lost: they came faster than they could be counted.");
        }

        if (_recorders.IsEmpty)
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
