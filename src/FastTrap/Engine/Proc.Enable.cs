using System.Diagnostics;
using FastTrap.Control;
using FastTrap.Engine.Mechanisms;
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
    private Dictionary<ulong, Tracepoint> _fresh = [];

    /// <summary>Tracepoints of the enabling under way which are in the table, but not armed: those of an enabling that rests.</summary>
    private readonly List<Tracepoint> _unarmed = [];

    /// <summary>
    /// Enables probes for several consumers in one change: tables are published first, then the traps are written. A probe whose
    /// instruction changed or cannot be written fails by itself; if the process goes, all is undone and the iterator throws.
    /// </summary>
    public IEnumerator<bool> Enable(IReadOnlyList<(ProbeEnabling Enabling, IReadOnlyList<ProbeSpec> Specs)> requests)
    {
        RequireAlive();
        Process.Thread.PrepareForTraps(Process);
        RequireAlive();
        RequireMemory();
        Dictionary<string, Provider> providers = [];
        Process.StallMeters.AddRange(requests.Select(r => r.Enabling.StallMeter));
        try
        {
            HoldProviders(requests, providers);
            foreach ((ProbeEnabling enabling, _) in requests)
            {
                // A standing enabling comes again for each module.
                if (!_enablings.Contains(enabling))
                {
                    _enablings.Add(enabling);
                }
            }

            _fresh.Clear();
            _unarmed.Clear();
            foreach ((ProbeEnabling enabling, IReadOnlyList<ProbeSpec> specs) in requests)
            {
                for (int i = 0; i < specs.Count; i++)
                {
                    if (Ageing.IsDue(i))
                    {
                        _ = Process.Thread.TryRunAside(Process, Ageing.Collect);
                        RequireAlive();
                    }

                    ProbeSpec spec = specs[i];
                    Provider provider = providers[spec.Provider ?? Provider.Pid];
                    if (!TryAttach(enabling, spec, provider, out ProbeRefusal refusal))
                    {
                        enabling.AddFailure(spec, provider.Name, refusal);
                    }

                    if (Process.Thread.IsSliceOver)
                    {
                        // Nothing is published yet, so hits may pass.
                        yield return true;
                        RequireAlive();
                    }
                }
            }

            Publish(_fresh.Values);
            RequireAlive();

            // The table has them from here on. (A new one: the room that a large enabling needed would be kept for ever.)
            Dictionary<ulong, Tracepoint>.ValueCollection fresh = _fresh.Values;
            Tracepoint[] unarmed = [.. _unarmed];
            Tracepoint[] order = Process.Thread.Make(Process, fresh.Count + unarmed.Length, () => Order(fresh, unarmed));
            _fresh = [];
            _unarmed.Clear();
            yield return true;
            RequireAlive();
            foreach ((ProbeEnabling enabling, _) in requests)
            {
                enabling.BeginCost(Stopwatch.GetTimestamp());
            }

            yield return true;
            RequireAlive();
            List<(Tracepoint Tracepoint, ProbeRefusal Refusal, string? Reason)> failed = [];
            using IEnumerator<bool> jumps = ArmJumps(order, requests, failed);
            while (jumps.MoveNext())
            {
                yield return true;
                RequireAlive();
            }

            HashSet<Tracepoint> refused = [.. failed.Select(f => f.Tracepoint)];
            order = Array.FindAll(order, t => t.ArmedBy is null && !refused.Contains(t));
            for (int start = 0; start < order.Length; start += SliceLength)
            {
                RequireAlive();
                Arm(order.AsSpan(start, Math.Min(SliceLength, order.Length - start)), failed);
                yield return true;
            }

            RequireAlive();
            if (failed.Count != 0)
            {
                RequireMemory();
            }

            foreach ((Tracepoint tracepoint, ProbeRefusal refusal, string? reason) in failed)
            {
                // Of a probe of several instructions those that were armed are disarmed.
                DropProbesOf(tracepoint, tracepoint.Address, refusal, reason);
                Drop(tracepoint);
            }

            Compact();
            using IEnumerator<bool> retiring = _jump.Retire();
            while (retiring.MoveNext())
            {
                yield return true;
                RequireAlive();
            }
        }
        finally
        {
            _fresh = [];
            _unarmed.Clear();
            foreach ((ProbeEnabling enabling, _) in requests)
            {
                Process.StallMeters.Remove(enabling.StallMeter);
            }

            foreach (Provider provider in providers.Values)
            {
                _core.Providers.Release(provider, ProviderHold.Creating);
            }
        }
    }

    /// <summary>By their addresses.</summary>
    private static Tracepoint[] Order(IReadOnlyCollection<Tracepoint> fresh, Tracepoint[] unarmed)
    {
        Tracepoint[] order = [.. fresh, .. unarmed];
        Array.Sort(Array.ConvertAll(order, static t => t.Address), order);
        return order;
    }

    /// <summary>Converts the jumps that are in the way of what is to be armed, then arms by Jump what can be.</summary>
    private IEnumerator<bool> ArmJumps(
        Tracepoint[] order, IReadOnlyList<(ProbeEnabling Enabling, IReadOnlyList<ProbeSpec> Specs)> requests,
        List<(Tracepoint Tracepoint, ProbeRefusal Refusal, string? Reason)> failed)
    {
        if (_jump.Index.Count != 0)
        {
            foreach (Tracepoint tracepoint in order)
            {
                _jump.ConvertAround(tracepoint);
                if (Process.Thread.IsSliceOver)
                {
                    yield return true;
                    if (IsGone)
                    {
                        yield break;
                    }
                }
            }

            using IEnumerator<bool> retiring = _jump.Retire();
            while (retiring.MoveNext())
            {
                yield return true;
            }
        }

        if (IsGone || !requests.Any(r => r.Enabling.Program is not null))
        {
            yield break;
        }

        Dictionary<ulong, SiteWindow> windows = new(order.Length);
        foreach (ProbeSpec spec in requests.Where(r => r.Enabling.Program is not null).SelectMany(r => r.Specs))
        {
            for (int i = 0; i < spec.Windows.Length; i++)
            {
                windows.TryAdd(spec.Instructions[i].Address, spec.Windows[i]);
            }

            if (Process.Thread.IsSliceOver)
            {
                yield return true;
                if (IsGone)
                {
                    yield break;
                }
            }
        }

        using IEnumerator<bool> arming = _jump.Arm(order, windows, failed);
        while (arming.MoveNext())
        {
            yield return true;
        }
    }

    /// <summary>Takes an enabling out: once this has run, none of its handlers runs or will run.</summary>
    public IEnumerator<bool> Disable(ProbeEnabling enabling)
    {
        Process.StallMeters.Add(enabling.StallMeter);
        try
        {
            using IEnumerator<bool> slices = TakeOut(enabling);
            while (slices.MoveNext())
            {
                yield return true;
            }
        }
        finally
        {
            Process.StallMeters.Remove(enabling.StallMeter);
        }
    }

    private IEnumerator<bool> TakeOut(ProbeEnabling enabling)
    {
        if (IsGone || !_enablings.Remove(enabling))
        {
            yield break;
        }

        // First all hits stop to count, at one moment, but for code: that counts until its jump has gone. Then the traps go.
        foreach (EnabledProbe enabled in enabling.EnabledProbes)
        {
            StopCounting(enabled);
            if (enabling.Program is { MayBeCode: true } && Process.Thread.IsSliceOver && !IsGone)
            {
                yield return true;
            }
        }

        foreach (EnabledProbe enabled in enabling.EnabledProbes)
        {
            LowerSemaphores(enabled);
            if (enabled.Probe.Enabled.IsEmpty)
            {
                Detach(enabled.Probe);
            }
            else
            {
                ChangeJumps(enabled.Probe);
            }

            if (Process.Thread.IsSliceOver)
            {
                yield return true;
                if (IsGone)
                {
                    yield break;
                }
            }
        }

        Compact();
        using (IEnumerator<bool> retiring = _jump.Retire())
        {
            while (retiring.MoveNext())
            {
                yield return true;
                if (IsGone)
                {
                    yield break;
                }
            }
        }

        enabling.Program?.OnRemoved(this, isQuiet: !_jump.HasSitesOf(enabling));
        if (_enablings.Count == 0)
        {
            // The text is as it was.
            ControlThread.UnwatchLinker(Process);
        }
    }

    /// <summary>A tracepoint whose instruction cannot be carried out away from its place: its text is restored, its probes fail with the reason.</summary>
    public void Withdraw(Tracepoint tracepoint, ProbeRefusal refusal, string reason)
    {
        Log.SiteWithdrawn(_logger, ProcessId, tracepoint.Address, reason);
        _ = TryDisarm(tracepoint);
        DropProbesOf(tracepoint, tracepoint.Address, refusal, reason);
        Compact();
    }

    private void RequireAlive()
    {
        if (IsGone)
        {
            ThrowGone();
        }
    }

    /// <summary>What was found in a program that is gone is no failure of its probes.</summary>
    private void RequireMemory()
    {
        if (HasLostMemory)
        {
            ThrowGone();
        }
    }

    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    private void ThrowGone() => throw new FastTrapException(
        FastTrapError.ProcessEnded, $"Process {ProcessId} ended, or executed another program, while probes were being enabled.", ProcessId);

    /// <summary>Writes traps, after a last look that the instructions are still what was decoded.</summary>
    private void Arm(ReadOnlySpan<Tracepoint> tracepoints, List<(Tracepoint Tracepoint, ProbeRefusal Refusal, string? Reason)> failed)
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
                // Its probes failed meanwhile.
                Drop(tracepoint);
                continue;
            }

            ref readonly DisplacedInstruction instruction = ref tracepoint.Instruction;
            Span<byte> now = bytes.Slice(i * PieceLength, PieceLength)[..instruction.Length];
            if (!ok[i] && Process.Platform.ReadCode(_memory, tracepoint.Address, now) != now.Length)
            {
                // Its library is being unloaded: the linker tells of it next.
                failed.Add((tracepoint, ProbeRefusal.Unloaded, null));
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
                failed.Add((tracepoint, Process.Platform.ReadCode(_memory, tracepoint.Address, now) == now.Length ? ProbeRefusal.CodeChanged : ProbeRefusal.Unloaded, null));
            }
            else
            {
                _core.CountTracepoints(1);
            }
        }
    }

    private void StopCounting(EnabledProbe enabled)
    {
        // Otherwise it was withdrawn before, and others may have enabled the probe since.
        if (enabled.Probe.Enabled.Contains(enabled))
        {
            enabled.Probe.Enabled = enabled.Probe.Enabled.Without(enabled);
            if (enabled.Probe.Enabled.IsEmpty)
            {
                // Its number stays; who else enables it gets the same probe.
                OnProbeDisabled(enabled.Probe);
            }
        }
    }

    private void OnProbeDisabled(Probe probe)
    {
        if (probe.Owner.OnProbeDisabled(_core.Barrier.Generation, _core.Registry.IsHalfFull))
        {
            _core.Cleaner.Kick();
        }
    }

    /// <summary>One of several consumers of a probe has gone.</summary>
    private void ChangeJumps(Probe probe)
    {
        for (int i = 0; _jump.Index.Count != 0 && i < probe.SiteCount; i++)
        {
            if (FindTracepoint(probe.GetSite(i)) is { } tracepoint)
            {
                _jump.Change(tracepoint);
            }
        }
    }

    /// <summary>Takes a probe off its tracepoints; those that serve nobody any more are disarmed and leave the table.</summary>
    private void Detach(Probe probe)
    {
        for (int i = 0; i < probe.SiteCount; i++)
        {
            if (FindTracepoint(probe.GetSite(i)) is not { } tracepoint)
            {
                continue;
            }

            tracepoint.Before = tracepoint.Before.Without(probe);
            tracepoint.After = tracepoint.After.Without(probe);
            if (!tracepoint.IsUsed)
            {
                Drop(tracepoint);
            }
            else if (!IsWanted(tracepoint))
            {
                // Who is left rests.
                _ = TryDisarm(tracepoint);
            }
            else
            {
                _jump.Change(tracepoint);
            }
        }
    }

    /// <summary>A tracepoint that serves nobody leaves the table, unless its trap cannot be removed: then it is tried again at the detach.</summary>
    private void Drop(Tracepoint tracepoint)
    {
        if (!tracepoint.IsUsed && TryDisarm(tracepoint) && _table.Find(tracepoint.Address) == tracepoint)
        {
            _table.Remove(tracepoint);
        }
    }

    /// <summary>All probes of a tracepoint fail for all who enabled them. The caller makes the table smaller.</summary>
    private void DropProbesOf(Tracepoint tracepoint, ulong address, ProbeRefusal refusal, string? reason)
    {
        foreach (Probe probe in tracepoint.Before.ToArray().Union(tracepoint.After.ToArray()))
        {
            foreach (EnabledProbe enabled in probe.Enabled)
            {
                if (refusal == ProbeRefusal.Unloaded)
                {
                    AbandonSemaphores(enabled);
                }
                else
                {
                    LowerSemaphores(enabled);
                }

                enabled.Enabling.OnWithdrawn(enabled, address, refusal, reason);
            }

            if (!probe.Enabled.IsEmpty)
            {
                probe.Enabled = default;
                OnProbeDisabled(probe);
            }

            Detach(probe);
        }
    }
}
