using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;

namespace FastTrap;

/// <summary>How often each probe was hit. Any thread reads, at any time.</summary>
public sealed class ProbeTally : ProbeResult
{
    /// <summary>Those that stops have counted; the control thread alone adds.</summary>
    private readonly ConcurrentDictionary<Probe, StrongBox<long>> _stopped = new();

    internal ProbeTally(ProbeProgram program)
        : base(program, ProgramAction.CountBySite(0))
    {
    }

    /// <summary>The hits of each probe that was hit. A return probe has one number for all its instructions.</summary>
    public IReadOnlyDictionary<Probe, long> GetCounts()
    {
        Dictionary<Probe, long> counts = [];
        foreach ((Probe probe, StrongBox<long> count) in _stopped)
        {
            counts[probe] = Volatile.Read(ref count.Value);
        }

        Code?.AddProbes(counts);
        return counts;
    }

    private protected override void Take(in ProbeContext context, ReadOnlySpan<ulong> values, ReadOnlySpan<bool> valid, bool isComplete)
    {
        StrongBox<long> count = _stopped.GetOrAdd(context.Probe, static _ => new StrongBox<long>());
        Volatile.Write(ref count.Value, count.Value + 1);
    }
}
