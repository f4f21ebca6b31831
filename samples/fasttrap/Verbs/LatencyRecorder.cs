using FastTrap.Tool.Output;
using FastTrap.Tool.Queries;

namespace FastTrap.Tool.Verbs;

/// <summary>
/// Matches entries with returns, by thread, for one process. Its control thread alone calls <see cref="OnHit"/>; read the results after the
/// enablings have been disposed.
/// </summary>
internal sealed class LatencyRecorder
{
    /// <summary>Functions whose returns cannot be probed leave entries behind; beyond this many the oldest go.</summary>
    private const int MaximumDepth = 8192;

    /// <summary>The calls that each thread is in. A thread in none is not kept: programs make and end millions of them.</summary>
    private readonly Dictionary<int, List<(ulong Function, long TimeNs)>> _threads = [];
    private readonly Stack<List<(ulong Function, long TimeNs)>> _spare = [];
    private readonly Dictionary<ulong, FunctionLatency> _functions = [];
    private readonly EventOwners _owners = new();

    /// <summary>What was measured, by function.</summary>
    public IEnumerable<FunctionLatency> Functions
    {
        get
        {
            foreach (List<(ulong Function, long TimeNs)> stack in _threads.Values)
            {
                foreach ((ulong function, _) in stack)
                {
                    _functions[function].Unmatched++;
                }

                stack.Clear();
            }

            return _functions.Values;
        }
    }

    public void OnHit(in ProbeContext context)
    {
        if (!_owners.IsOwner(context))
        {
            return;
        }

        Probe probe = context.Probe;
        if (!_functions.TryGetValue(probe.FunctionAddress, out FunctionLatency? latency))
        {
            latency = new FunctionLatency($"{probe.Provider}:{probe.Module}:{probe.DisplayFunction}");
            _functions.Add(probe.FunctionAddress, latency);
        }

        if (!_threads.TryGetValue(context.ThreadId, out List<(ulong Function, long TimeNs)>? stack))
        {
            stack = _spare.TryPop(out List<(ulong Function, long TimeNs)>? spare) ? spare : [];
            _threads.Add(context.ThreadId, stack);
        }

        if (probe.Kind == ProbeKind.Entry)
        {
            if (stack.Count == MaximumDepth)
            {
                _functions[stack[0].Function].Unmatched++;
                stack.RemoveAt(0);
            }

            stack.Add((probe.FunctionAddress, context.TimestampNs));
            return;
        }

        int index = stack.FindLastIndex(call => call.Function == probe.FunctionAddress);
        if (index < 0)
        {
            // The call had begun before we looked.
            latency.Unmatched++;
            Forget(context.ThreadId, stack);
            return;
        }

        // Calls above it were left without a return that could be seen: an exception, longjmp.
        for (int i = index + 1; i < stack.Count; i++)
        {
            _functions[stack[i].Function].Unmatched++;
        }

        latency.Times.Add(context.TimestampNs - stack[index].TimeNs);
        stack.RemoveRange(index, stack.Count - index);
        Forget(context.ThreadId, stack);
    }

    private void Forget(int threadId, List<(ulong Function, long TimeNs)> stack)
    {
        if (stack.Count == 0)
        {
            _threads.Remove(threadId);
            _spare.Push(stack);
        }
    }
}

/// <summary>The calls of one function.</summary>
internal sealed class FunctionLatency(string name)
{
    /// <summary>What a query has timed; null of a function that was not called.</summary>
    public static FunctionLatency? Of(QueryResult<ProbeLatencies> query)
    {
        ProbeLatencies result = query.Result;
        if (result.Count == 0 || result.Enablings.SelectMany(enabling => enabling.Probes).FirstOrDefault() is not { } probe)
        {
            return null;
        }

        FunctionLatency latency = new($"{probe.Provider}:{probe.Module}:{probe.DisplayFunction}") { Unmatched = Math.Max(0, result.Count - result.ReturnCount) };
        foreach (HistogramStep step in result.GetSteps())
        {
            latency.Times.Add(Math.Max(0, step.From), step.Count);
        }

        latency.Times.Complete(result.TotalNs, result.MinimumNs, result.MaximumNs);
        return latency;
    }

    public string Name { get; } = name;

    public Histogram Times { get; } = new();

    /// <summary>Entries without a return, or returns without an entry.</summary>
    public long Unmatched { get; set; }
}
