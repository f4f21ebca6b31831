using FastTrap.Control;
using FastTrap.Isa;
using FastTrap.Native;

namespace FastTrap.Engine;

/// <summary>Enabling and disabling. Control thread only, in slices between hits.</summary>
/// <remarks>Source: fasttrap.c, fasttrap_tracepoint_enable, fasttrap_tracepoint_disable, fasttrap_pid_enable, fasttrap_pid_disable.</remarks>
internal sealed partial class Proc
{
    /// <summary>Probes handled in one slice: some 100 microseconds, so that a stopped thread does not wait longer.</summary>
    private const int SliceLength = 64;

    private readonly List<ProbeEnabling> _enablings = [];

    /// <summary>Tracepoints of the enabling under way which are not in the table yet.</summary>
    private readonly Dictionary<ulong, Tracepoint> _fresh = [];

    /// <summary>Tracepoints of the enabling under way whose trap went with the library it stood in, while the same library came back.</summary>
    private readonly List<Tracepoint> _bare = [];

    /// <summary>
    /// Enables probes for several consumers in one change: tables are published first, then the traps are written. A probe whose
    /// instruction changed or cannot be written fails by itself; if the process goes, all is undone and the iterator throws.
    /// </summary>
    public IEnumerator<bool> Enable(IReadOnlyList<(ProbeEnabling Enabling, IReadOnlyList<ProbeSpec> Specs)> requests)
    {
        RequireAlive();
        Process.Thread.PrepareForTraps(Process);
        RequireAlive();
        foreach ((ProbeEnabling enabling, _) in requests)
        {
            // A standing enabling comes again for each module.
            if (!_enablings.Contains(enabling))
            {
                _enablings.Add(enabling);
            }
        }

        Dictionary<ulong, Tracepoint> fresh = _fresh;
        fresh.Clear();
        _bare.Clear();
        bool isPublished = false;
        int done = 0;
        try
        {
            foreach ((ProbeEnabling enabling, IReadOnlyList<ProbeSpec> specs) in requests)
            {
                foreach (ProbeSpec spec in specs)
                {
                    if (!TryAttach(enabling, spec, fresh, out ProbeRefusal refusal))
                    {
                        enabling.AddFailure(spec, ProviderName, refusal);
                    }

                    if (++done % (SliceLength * 4) == 0)
                    {
                        // Nothing is published yet, so hits may pass.
                        yield return true;
                        RequireAlive();
                    }
                }
            }

            Publish(fresh.Values);
            isPublished = true;
        }
        finally
        {
            if (!isPublished)
            {
                // The process went away before the table, which is released as a whole, had them.
                _core.ReleaseTracepoints(fresh.Count);
                fresh.Clear();
            }
        }

        Tracepoint[] order = [.. fresh.Values, .. _bare];

        // The table has them from here on.
        fresh.Clear();
        _bare.Clear();
        Array.Sort(order, static (a, b) => a.Address.CompareTo(b.Address));
        List<Tracepoint> failed = [];
        for (int start = 0; start < order.Length; start += SliceLength)
        {
            RequireAlive();
            Arm(order.AsSpan(start, Math.Min(SliceLength, order.Length - start)), failed);
            yield return true;
        }

        RequireAlive();
        if (failed.Count != 0)
        {
            foreach (Tracepoint tracepoint in failed)
            {
                DropProbesOf(tracepoint, tracepoint.Address, ProbeRefusal.CodeChanged, null);
            }

            PublishUsed();
        }
    }

    /// <summary>Takes an enabling out: once this has run, none of its handlers runs or will run.</summary>
    public IEnumerator<bool> Disable(ProbeEnabling enabling)
    {
        if (IsGone || !_enablings.Remove(enabling))
        {
            yield break;
        }

        // First all hits stop to count, at one moment; then the traps go.
        foreach (EnabledProbe enabled in enabling.EnabledProbes)
        {
            enabled.Probe.Enabled = [.. enabled.Probe.Enabled.Where(e => e != enabled)];
        }

        int done = 0;
        bool changed = false;
        foreach (EnabledProbe enabled in enabling.EnabledProbes)
        {
            if (enabled.Probe.Enabled.Length == 0)
            {
                changed |= Detach(enabled.Probe);
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

        if (changed)
        {
            PublishUsed();
        }
    }

    /// <summary>A tracepoint whose instruction cannot be carried out away from its place: its text is restored, its probes fail with the reason.</summary>
    public void Withdraw(Tracepoint tracepoint, ProbeRefusal refusal, string reason)
    {
        Log.SiteWithdrawn(_logger, ProcessId, tracepoint.Address, reason);
        _ = TryDisarm(tracepoint);
        DropProbesOf(tracepoint, tracepoint.Address, refusal, reason);
        PublishUsed();
    }

    private string ProviderName => Provider.Name;

    private void RequireAlive()
    {
        if (IsGone)
        {
            throw new FastTrapException(
                FastTrapError.ProcessEnded, $"Process {ProcessId} ended, or executed another program, while probes were being enabled.", ProcessId);
        }
    }

    /// <summary>Finds or makes the probe and its tracepoints, unarmed.</summary>
    private bool TryAttach(ProbeEnabling enabling, ProbeSpec spec, Dictionary<ulong, Tracepoint> fresh, out ProbeRefusal refusal)
    {
        refusal = ProbeRefusal.None;
        if (!Provider.TryGet(spec.FunctionAddress, spec.Name, spec.Function, out Probe? probe))
        {
            ulong[] sites = new ulong[spec.Instructions.Length];
            int reserved = 0;
            for (int i = 0; i < sites.Length; i++)
            {
                sites[i] = spec.Instructions[i].Address;
                if (FindTracepoint(sites[i]) is { } existing)
                {
                    if (!existing.Instruction.Bytes.SequenceEqual(spec.Instructions[i].Bytes))
                    {
                        refusal = ProbeRefusal.CodeChanged;
                    }
                }
                else if (_core.TryReserveTracepoint())
                {
                    reserved++;
                }
                else
                {
                    refusal = ProbeRefusal.TooManyTracepoints;
                }

                if (refusal != ProbeRefusal.None)
                {
                    _core.ReleaseTracepoints(reserved);
                    return false;
                }
            }

            probe = new Probe(
                _core.NextProbeId(), Provider, spec.Module, spec.Function, spec.Name, spec.Kind, spec.FunctionAddress, spec.FunctionLength, spec.ColdStart,
                spec.ColdLength, sites);
            Provider.Add(probe);
            for (int i = 0; i < sites.Length; i++)
            {
                Tracepoint? tracepoint = FindTracepoint(sites[i]);
                if (tracepoint is null)
                {
                    tracepoint = new Tracepoint(spec.Instructions[i]);
                    fresh.Add(sites[i], tracepoint);
                }

                if (spec.Kind == ProbeKind.Return)
                {
                    tracepoint.After = [.. tracepoint.After, probe];
                }
                else
                {
                    tracepoint.Before = [.. tracepoint.Before, probe];
                }
            }
        }

        NoteBareTracepoints(probe!);
        if (Array.Exists(probe!.Enabled, e => e.Enabling == enabling))
        {
            // Matched twice, by two names of one module: once is enough.
            return true;
        }

        EnabledProbe enabled = new(enabling, probe);
        probe.Enabled = [.. probe.Enabled, enabled];
        enabling.Add(enabled);
        return true;
    }

    private Tracepoint? FindTracepoint(ulong address) =>
        _table.Find(address) ?? (_fresh.TryGetValue(address, out Tracepoint? tracepoint) ? tracepoint : null);

    private void Publish(Dictionary<ulong, Tracepoint>.ValueCollection fresh)
    {
        if (fresh.Count != 0)
        {
            List<Tracepoint> all = new(_table.Count + fresh.Count);
            all.AddRange(_table.All());
            all.AddRange(fresh);
            _table = TracepointTable.Create(all);
        }
    }

    private void PublishUsed()
    {
        int before = _table.Count;
        List<Tracepoint> used = new(before);
        used.AddRange(_table.All().Where(t => t.IsUsed || t.ArmedBy is not null));
        _table = TracepointTable.Create(used);
        _core.ReleaseTracepoints(before - used.Count);
    }

    /// <summary>Writes traps, after a last look that the instructions are still what was decoded.</summary>
    private void Arm(ReadOnlySpan<Tracepoint> tracepoints, List<Tracepoint> failed)
    {
        const int PieceLength = 16;
        Span<ulong> addresses = stackalloc ulong[SliceLength];
        Span<byte> bytes = stackalloc byte[SliceLength * PieceLength];
        Span<bool> ok = stackalloc bool[SliceLength];
        for (int i = 0; i < tracepoints.Length; i++)
        {
            addresses[i] = tracepoints[i].Address;
        }

        Process.Platform.ReadMemoryBatch(ProcessId, addresses[..tracepoints.Length], PieceLength, bytes, ok);
        for (int i = 0; i < tracepoints.Length; i++)
        {
            Tracepoint tracepoint = tracepoints[i];
            if (!tracepoint.IsUsed)
            {
                continue;
            }

            ref readonly DisplacedInstruction instruction = ref tracepoint.Instruction;
            Span<byte> now = bytes.Slice(i * PieceLength, PieceLength)[..instruction.Length];
            if (!ok[i] && Process.Platform.ReadCode(_memory, tracepoint.Address, now) != now.Length)
            {
                failed.Add(tracepoint);
                continue;
            }

            // A control breakpoint's trap is one's own.
            ControlBreakpointTable.Unmask(Process.ControlBreakpoints.Current, tracepoint.Address, now);

            // What stands at its own address now is what the trap will displace; the table has it already, so it is looked at before.
            byte first = now[0];

            // Longer instructions may hold a neighbour's trap only if they overlap, which a row of instructions does not.
            Unmask(_table, tracepoint.Address, now);
            bool changed = !now.SequenceEqual(instruction.Bytes) || first != instruction.Bytes[0];
            if (changed || !_breakpoint.TryArm(tracepoint, out Errno error))
            {
                failed.Add(tracepoint);
            }
        }
    }

    /// <summary>Takes a probe off its tracepoints and disarms those that serve nobody any more; true if one was.</summary>
    private bool Detach(Probe probe)
    {
        Provider.Condense(probe);
        bool changed = false;
        foreach (ulong site in probe.Sites)
        {
            if (FindTracepoint(site) is not { } tracepoint)
            {
                continue;
            }

            tracepoint.Before = Without(tracepoint.Before, probe);
            tracepoint.After = Without(tracepoint.After, probe);
            if (!tracepoint.IsUsed)
            {
                changed |= TryDisarm(tracepoint);
            }
        }

        return changed;
    }

    private static Probe[] Without(Probe[] probes, Probe probe) =>
        Array.IndexOf(probes, probe) < 0 ? probes : [.. probes.Where(p => p != probe)];

    /// <summary>All probes of a tracepoint fail for all who enabled them. The caller publishes.</summary>
    private void DropProbesOf(Tracepoint tracepoint, ulong address, ProbeRefusal refusal, string? reason)
    {
        foreach (Probe probe in tracepoint.Before.Concat(tracepoint.After).ToArray())
        {
            foreach (EnabledProbe enabled in probe.Enabled)
            {
                enabled.Enabling.OnWithdrawn(enabled, address, refusal, reason);
            }

            probe.Enabled = [];
            Detach(probe);
        }
    }
}
