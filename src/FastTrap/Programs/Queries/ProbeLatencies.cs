using FastTrap.Programs;

namespace FastTrap;

/// <summary>How long calls took, from entry to return, in nanoseconds.</summary>
/// <remarks>A call is told by its thread, its function and its stack pointer. Calls that were abandoned are forgotten when the thread's stack has passed them.</remarks>
public sealed class ProbeLatencies : ProbeResult
{
    private const int MaximumDepth = 4096;

    private readonly HistogramScale _scale = HistogramScale.PowersOfTwo;
    private readonly long[] _counts;

    /// <summary>The calls that each thread is in. A thread in none is not kept: programs make and end millions of them.</summary>
    private readonly Dictionary<int, List<Call>> _calls = [];
    private readonly Stack<List<Call>> _spare = [];
    private long _totalNs;
    private long _returns;

    internal ProbeLatencies(ProbeProgram program)
        : base(program) => _counts = new long[_scale.Count];

    /// <summary>Calls that were timed to their end.</summary>
    public long ReturnCount => Volatile.Read(ref _returns);

    /// <summary>The sum of their times, in nanoseconds.</summary>
    public long TotalNs => Volatile.Read(ref _totalNs);

    /// <summary>Threads that are kept: those in a call. After the disposal.</summary>
    internal int ThreadCount => _calls.Count;

    /// <summary>The steps from the first to the last that was reached, in nanoseconds, as they are now.</summary>
    public IReadOnlyList<HistogramStep> GetSteps() => _scale.GetSteps(_counts);

    private protected override IReadOnlyList<ProbeRequest> Requests(ProbeDescription description) =>
    [
        .. base.Requests(description),
        new ProbeRequest(
            new ProbeDescription(description.Provider, description.Module, description.Function, "return"), new ProbeOptions { OnHit = OnReturn, Buffered = false }),
    ];

    private protected override void Take(in ProbeContext context, ReadOnlySpan<ulong> values, ReadOnlySpan<bool> valid, bool isComplete)
    {
        if (!_calls.TryGetValue(context.ThreadId, out List<Call>? calls))
        {
            _calls.Add(context.ThreadId, calls = _spare.TryPop(out List<Call>? spare) ? spare : new List<Call>(64));
        }

        ulong stackPointer = context.Registers.StackPointer;
        Unwind(calls, stackPointer);
        if (calls.Count < MaximumDepth)
        {
            calls.Add(new Call(context.Probe.FunctionAddress, stackPointer, context.TimestampNs));
        }
    }

    /// <summary>A return leaves the stack above where the entry found it, a jump out of the function leaves it there.</summary>
    private void OnReturn(in ProbeContext context)
    {
        if (!_calls.TryGetValue(context.ThreadId, out List<Call>? calls))
        {
            return;
        }

        ulong stackPointer = context.Registers.StackPointer;
        ulong function = context.Probe.FunctionAddress;
        int last = calls.Count - 1;
        while (last >= 0 && calls[last].Function != function)
        {
            last--;
        }

        if (last >= 0 && calls[last].StackPointer is ulong at && stackPointer - at <= sizeof(ulong))
        {
            long time = context.TimestampNs - calls[last].StartNs;
            calls.RemoveRange(last, calls.Count - last);
            ref long count = ref _counts[_scale.IndexOf(time)];
            Volatile.Write(ref count, count + 1);
            Volatile.Write(ref _totalNs, _totalNs + time);
            Volatile.Write(ref _returns, _returns + 1);
        }
        else
        {
            Unwind(calls, stackPointer);
        }

        if (calls.Count == 0)
        {
            _calls.Remove(context.ThreadId);
            _spare.Push(calls);
        }
    }

    /// <summary>Calls below the stack pointer have been left without a return.</summary>
    private static void Unwind(List<Call> calls, ulong stackPointer)
    {
        while (calls.Count != 0 && calls[^1].StackPointer < stackPointer)
        {
            calls.RemoveAt(calls.Count - 1);
        }
    }

    private readonly record struct Call(ulong Function, ulong StackPointer, long StartNs);
}
