using System.Runtime.InteropServices;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap;

/// <summary>How long calls took, from entry to return, in nanoseconds.</summary>
/// <remarks>
/// A call is told by its thread, its function and its stack pointer. Calls that were abandoned are forgotten when the thread's stack has passed them, or an outer call returns. Calls of a thread that
/// goes over to another stack and back meanwhile (coroutines) may be forgotten, and are not timed then. Scheme: where code runs in the target, handlers of breakpoints keep the calls in the same lanes of shared memory, so that an entry and a return may
/// be armed by different mechanisms; the control thread alone writes what is here.
/// </remarks>
public sealed class ProbeLatencies : ProbeResult
{
    /// <summary>Room for calls that a thread gets at first, in words.</summary>
    private const int FirstRoom = 64 * CallStack.CallWords;

    private readonly HistogramScale _scale = HistogramScale.PowersOfTwo;
    private readonly long[] _counts;

    /// <summary>The calls that each thread is in, without code. A thread in none is not kept: programs make and end millions of them.</summary>
    private readonly Dictionary<int, ThreadCalls> _calls = [];
    private readonly Stack<ThreadCalls> _spare = [];
    private long _totalNs;
    private long _leastNs = long.MaxValue;
    private long _greatestNs = long.MinValue;
    private long _returns;
    private long _lost;

    internal ProbeLatencies(ProbeProgram program)
        : base(program, ProgramAction.Latency(CallStack.StandardDepth)) => _counts = new long[_scale.Count];

    /// <summary>Calls that were timed to their end.</summary>
    public long ReturnCount => Volatile.Read(ref _returns) + (Code?.Times.Count ?? 0);

    /// <summary>The sum of their times, in nanoseconds.</summary>
    public long TotalNs => Volatile.Read(ref _totalNs) + (Code?.Times.Sum ?? 0);

    /// <summary>The least of their times, in nanoseconds, or null if there was none.</summary>
    public long? MinimumNs => Least <= Greatest ? Least : null;

    /// <summary>The greatest of their times, in nanoseconds, or null if there was none.</summary>
    public long? MaximumNs => Least <= Greatest ? Greatest : null;

    /// <summary>
    /// Calls that could not be timed because their thread was in more than 4,096 at a time, of which all are forgotten then, those that were left without a return included; and those of threads beyond the first 256 where code runs in the target.
    /// </summary>
    public long LostCount => Volatile.Read(ref _lost) + (Code?.LostCalls ?? 0);

    /// <summary>Threads that are kept here: those in a call. After the disposal.</summary>
    internal int ThreadCount => _calls.Count;

    private protected override int EnablingCount => 2;

    private long Least => Math.Min(Volatile.Read(ref _leastNs), Code?.Times.Least ?? long.MaxValue);

    private long Greatest => Math.Max(Volatile.Read(ref _greatestNs), Code?.Times.Greatest ?? long.MinValue);

    /// <summary>The steps from the first to the last that was reached, in nanoseconds, as they are now.</summary>
    public IReadOnlyList<HistogramStep> GetSteps()
    {
        long[] counts = new long[_counts.Length];
        for (int i = 0; i < counts.Length; i++)
        {
            counts[i] = Volatile.Read(ref _counts[i]);
        }

        Code?.AddSteps(counts);
        return _scale.GetSteps(counts);
    }

    private protected override IReadOnlyList<ProbeRequest> Requests(ProbeDescription description) =>
    [
        .. base.Requests(description),
        new ProbeRequest(
            new ProbeDescription(description.Provider, description.Module, description.Function, "return"),
            new ProbeOptions { OnHit = OnReturn, Buffered = false, Program = Code }),
    ];

    private protected override void Take(in ProbeContext context, ReadOnlySpan<ulong> values, ReadOnlySpan<bool> valid, bool isComplete) => Enter(context, counts: true);

    private protected override void Pass(in ProbeContext context) => Enter(context, counts: false);

    /// <summary>Every entry is kept, so that a return finds its own or none.</summary>
    private void Enter(in ProbeContext context, bool counts)
    {
        ulong stackPointer = context.Registers.StackPointer;
        ulong function = context.Probe.FunctionAddress;
        int lost = 0;
        if (Code!.Region is { } region)
        {
            ulong ticks = counts ? Code.ReadTicks() : 0;
            region.Memory.Hold();
            try
            {
                int lane = FindLane(region, context);
                if (lane < 0)
                {
                    lost = counts ? 1 : 0;
                }
                else
                {
                    Span<ulong> words = region.Counters(lane);
                    lost = CallStack.Push(ref words[CallStack.StateWord], words[CallStack.CallsWord..Action!.CounterCount], stackPointer, function, ticks);
                }
            }
            finally
            {
                region.Memory.Release();
            }
        }
        else
        {
            if (!_calls.TryGetValue(context.ThreadId, out ThreadCalls? calls))
            {
                _calls.Add(context.ThreadId, calls = _spare.TryPop(out ThreadCalls? spare) ? spare : new ThreadCalls { Words = new ulong[FirstRoom] });
            }

            if (CallStack.UseOf(calls.State) == calls.Words.Length && calls.Words.Length < Action!.Calls!.Limit)
            {
                Array.Resize(ref calls.Words, Math.Min(calls.Words.Length * 2, Action.Calls.Limit));
            }

            lost = CallStack.Push(ref calls.State, calls.Words, stackPointer, function, counts ? (ulong)context.TimestampNs : 0);
        }

        Volatile.Write(ref _lost, _lost + lost);
    }

    /// <summary>A return leaves the stack above where the entry found it, a jump out of the function leaves it there.</summary>
    private void OnReturn(in ProbeContext context)
    {
        ulong stackPointer = context.Registers.StackPointer;
        ulong function = context.Probe.FunctionAddress;
        ulong start = 0;
        if (Code!.Region is { } region)
        {
            ulong now = Code.ReadTicks();
            region.Memory.Hold();
            try
            {
                int lane = FindLane(region, context);
                if (lane >= 0)
                {
                    Span<ulong> words = region.Counters(lane);
                    CallStack.TryPop(ref words[CallStack.StateWord], words[CallStack.CallsWord..Action!.CounterCount], stackPointer, sizeof(ulong), function, out start);
                }
            }
            finally
            {
                region.Memory.Release();
            }

            if (start != 0)
            {
                Add(Code.ToNs(now - start));
            }
        }
        else if (_calls.TryGetValue(context.ThreadId, out ThreadCalls? calls))
        {
            if (CallStack.TryPop(ref calls.State, calls.Words, stackPointer, sizeof(ulong), function, out start) && start != 0)
            {
                Add(context.TimestampNs - (long)start);
            }

            if (CallStack.UseOf(calls.State) == 0)
            {
                _calls.Remove(context.ThreadId);
                _spare.Push(calls);
            }
        }
    }

    private void Add(long time)
    {
        ref long count = ref _counts[_scale.IndexOf(time)];
        Volatile.Write(ref count, count + 1);
        Volatile.Write(ref _totalNs, _totalNs + time);
        Volatile.Write(ref _leastNs, Math.Min(_leastNs, time));
        Volatile.Write(ref _greatestNs, Math.Max(_greatestNs, time));
        Volatile.Write(ref _returns, _returns + 1);
    }

    /// <summary>There is code for x86-64 only.</summary>
    private static int FindLane(SharedRegion region, in ProbeContext context) =>
        context.Registers.Architecture == Architecture.X64 ? region.FindLane(context.Registers[X64Register.FsBase]) : -1;

    private sealed class ThreadCalls
    {
        public ulong State;

        public ulong[] Words = [];
    }
}
