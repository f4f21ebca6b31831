using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap.Programs;

/// <summary>What is known of each site by itself.</summary>
internal sealed partial class QueryProgram
{
    /// <summary>Hits by one of the mechanisms that lead to code; null where they cannot be told from those by the other.</summary>
    public long? HitsBy(ProbeMechanism mechanism)
    {
        ProbeMechanisms now = Mechanisms;
        if ((mechanism == ProbeMechanism.Jump ? now.InProcessTrap : now.Jump) == 0)
        {
            return Hits;
        }

        if (action.Kind != ProgramActionKind.CountBySite)
        {
            return null;
        }

        ulong[] counts = CountSites();
        long hits = 0;
        lock (_gate)
        {
            for (int i = 0; i < counts.Length; i++)
            {
                bool isTrap = _armed.TryGetValue(_addresses[i], out (ProbeMechanism Mechanism, string? Reason) armed) && armed.Mechanism == ProbeMechanism.InProcessTrap;
                hits += isTrap == (mechanism == ProbeMechanism.InProcessTrap) ? (long)counts[i] : 0;
            }
        }

        return hits;
    }

    /// <summary>Adds the hits of each probe, of a count by site.</summary>
    public void AddProbes(Dictionary<Probe, long> counts)
    {
        ulong[] sites = CountSites();
        lock (_gate)
        {
            for (int i = 0; i < sites.Length; i++)
            {
                if (sites[i] != 0)
                {
                    Probe probe = _sites[i].Probe;
                    counts[probe] = counts.GetValueOrDefault(probe) + (long)sites[i];
                }
            }
        }
    }

    private ulong[] CountSites()
    {
        if (_region is not { } region)
        {
            return [];
        }

        int count;
        lock (_gate)
        {
            count = _sites.Count;
        }

        return SiteCounts.Read(region, count);
    }
}
