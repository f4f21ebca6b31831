using FastTrap.Engine.Mechanisms;

namespace FastTrap.Engine;

/// <summary>Letting go of a process whose probes need no tracer. Control thread only.</summary>
internal sealed partial class Proc
{
    /// <summary>Probes that are named in a refusal.</summary>
    private const int NamedProbes = 3;

    /// <summary>Brings to its end what is under way, and sees whether all that is left needs no tracer. From then on the process is let go of as it is; else the reason is given.</summary>
    public IEnumerator<bool> LetGo(Action<string> refuse)
    {
        using (IEnumerator<bool> retiring = _jump.Retire())
        {
            while (retiring.MoveNext())
            {
                yield return true;
                RequireAlive();
            }
        }

        RequireAlive();
        Tracepoint[] needing = [.. _table.All().Where(t => t.IsUsed && (t.ArmedBy != _jump || JumpMechanism.NeedsTracer(t)))];
        if (needing.Length != 0)
        {
            IEnumerable<string> names = needing.SelectMany(t => t.Before.ToArray().Union(t.After.ToArray())).Distinct().Take(NamedProbes).Select(p => p.ToString());
            refuse($"{needing.Length} instructions have probes that the tracer serves itself: {string.Join(", ", names)}{(needing.Length > NamedProbes ? ", ..." : "")}; see why in ProbeResult.Mechanisms, and dispose those");
        }
        else if (!_jump.TryStay(out string reason))
        {
            refuse(reason);
        }
        else
        {
            IsLettingGo = true;
        }
    }
}
