using FastTrap.Isa;

namespace FastTrap.Engine;

/// <summary>Enablings that rest: their traps are out, everything else stays, so that they go in again cheaply. Control thread only.</summary>
internal sealed partial class Proc
{
    /// <summary>Takes out the traps that only resting enablings want.</summary>
    public IEnumerator<bool> Rest(ProbeEnabling enabling)
    {
        if (IsGone || !_enablings.Contains(enabling))
        {
            yield break;
        }

        int done = 0;
        foreach (EnabledProbe enabled in enabling.EnabledProbes.ToArray())
        {
            for (int i = 0; i < enabled.Probe.SiteCount; i++)
            {
                if (_table.Find(enabled.Probe.GetSite(i)) is { } tracepoint && !IsWanted(tracepoint))
                {
                    _ = TryDisarm(tracepoint);
                }
            }

            if (++done % SliceLength == 0)
            {
                yield return true;
                if (IsGone)
                {
                    yield break;
                }
            }
        }
    }

    /// <summary>Puts the traps of an enabling that rested in again. An instruction that changed meanwhile fails its probes.</summary>
    public IEnumerator<bool> Wake(ProbeEnabling enabling)
    {
        if (IsGone || !_enablings.Contains(enabling))
        {
            yield break;
        }

        enabling.EndRest();
        List<Tracepoint> unarmed = [];
        foreach (EnabledProbe enabled in enabling.EnabledProbes)
        {
            for (int i = 0; i < enabled.Probe.SiteCount; i++)
            {
                if (_table.Find(enabled.Probe.GetSite(i)) is { ArmedBy: null, IsUsed: true } tracepoint)
                {
                    unarmed.Add(tracepoint);
                }
            }
        }

        Tracepoint[] order = [.. unarmed.Distinct().OrderBy(t => t.Address)];
        List<(Tracepoint Tracepoint, ProbeRefusal Refusal, string? Reason)> failed = [];
        for (int start = 0; start < order.Length; start += SliceLength)
        {
            Arm(order.AsSpan(start, Math.Min(SliceLength, order.Length - start)), failed);
            yield return true;
            if (IsGone)
            {
                yield break;
            }
        }

        foreach ((Tracepoint tracepoint, ProbeRefusal refusal, string? reason) in failed)
        {
            DropProbesOf(tracepoint, tracepoint.Address, refusal, reason);
            Drop(tracepoint);
        }

        Compact();
    }

    /// <summary>Whether an enabling that does not rest wants hits of it.</summary>
    private static bool IsWanted(Tracepoint tracepoint) => tracepoint.Before.Exists(IsWanted) || tracepoint.After.Exists(IsWanted);

    private static bool IsWanted(Probe probe) => probe.Enabled.Exists(static e => !e.Enabling.IsResting);
}
