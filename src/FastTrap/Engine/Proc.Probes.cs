using FastTrap.Engine.Mechanisms;
using FastTrap.Isa;

namespace FastTrap.Engine;

/// <summary>The probes of an enabling: their providers, their creation, and their places at tracepoints. Control thread only.</summary>
/// <remarks>Source: fasttrap.c, fasttrap_add_probe and the first half of fasttrap_tracepoint_enable.</remarks>
internal sealed partial class Proc
{
    /// <summary>Holds the providers of all that is to be enabled, so that none of them goes meanwhile.</summary>
    private void HoldProviders(
        IReadOnlyList<(ProbeEnabling Enabling, IReadOnlyList<ProbeSpec> Specs)> requests, Dictionary<string, Provider> providers)
    {
        foreach ((_, IReadOnlyList<ProbeSpec> specs) in requests)
        {
            foreach (ProbeSpec spec in specs)
            {
                string name = spec.Provider ?? Provider.Pid;
                if (!providers.ContainsKey(name))
                {
                    providers.Add(name, _core.Providers.TryHold(Entry, name, ProviderStability.Pid, ProviderHold.Creating) ?? throw ProviderRefused(name));
                }
            }
        }

        if (_core.IsClosed)
        {
            throw new FastTrapException(FastTrapError.Detached, "The tracer is being shut down; make another one.", ProcessId);
        }
    }

    private FastTrapException ProviderRefused(string name) => ProviderTable.HasRoom(name)
        ? new FastTrapException(FastTrapError.ProcessEnded, $"Process {ProcessId} ended while probes were being enabled.", ProcessId)
        : new FastTrapException(
            FastTrapError.NoMatch, $"The provider name '{name}' leaves no room for a process id ({ProviderTable.NameCapacity} bytes in all); it cannot be enabled.", ProcessId);

    /// <summary>Finds or makes the probe and its tracepoints, unarmed.</summary>
    private bool TryAttach(ProbeEnabling enabling, ProbeSpec spec, Provider provider, out ProbeRefusal refusal)
    {
        if (!TryFindOrCreate(provider, spec, out Probe? probe)
            && !(_core.Providers.MakeRoom(Entry) && TryFindOrCreate(provider, spec, out probe)))
        {
            refusal = ProbeRefusal.TooManyTracepoints;
            return false;
        }

        refusal = ProbeRefusal.None;
        if (probe!.Enabled.Exists(e => e.Enabling == enabling))
        {
            // Matched twice, by two names of one module: once is enough.
            return true;
        }

        if (enabling.Program is { Mechanism: ProbeMechanism.Jump or ProbeMechanism.InProcessTrap } program
            && Array.Exists(spec.Instructions, i => FindTracepoint(i.Address) is { IsUsed: true } used && !_jump.MayShare(used, program)))
        {
            // Others have a trap there, or need one.
            refusal = JumpMechanism.RefusalOf(program);
            return false;
        }

        if (probe.Enabled.IsEmpty)
        {
            if (!TryPlace(probe, spec, out refusal))
            {
                return false;
            }

            provider.OnProbeEnabled();
        }
        else
        {
            for (int i = 0; i < probe.SiteCount; i++)
            {
                WantArmed(FindTracepoint(probe.GetSite(i)));
            }
        }

        EnabledProbe enabled = new(enabling, probe);
        if (enabling.RaisesSemaphores && !TryRaiseSemaphores(enabled))
        {
            refusal = ProbeRefusal.SemaphoreAccess;
            if (probe.Enabled.IsEmpty)
            {
                // Its tracepoints are not armed yet, and will not be: they serve nobody.
                OnProbeDisabled(probe);
                Detach(probe);
            }

            return false;
        }

        probe.Enabled = probe.Enabled.With(enabled);
        enabling.Add(enabled);
        return true;
    }

    /// <summary>The registered probe, or a new one; false if the limit on tracepoints leaves no room.</summary>
    private bool TryFindOrCreate(Provider provider, ProbeSpec spec, out Probe? probe)
    {
        bool isPid = spec.Provider is null;
        ProbeRegistry registry = _core.Registry;
        using (provider.CreationLock.Enter())
        {
            probe = registry.Find(
                provider, isPid ? null : spec.Module, spec.Function.Text, spec.Name, isPid ? spec.FunctionAddress : null, spec.Kind == ProbeKind.PostOffset);
            if (probe is not null && probe.Enabled.IsEmpty && !IsAsIn(probe, spec))
            {
                // Another function stands there by now.
                registry.Forget(probe);
                probe = null;
            }

            probe ??= registry.TryCreate(
                provider, spec.Module, spec.Function, spec.Name, spec.Kind, spec.FunctionAddress, spec.FunctionLength,
                Array.ConvertAll(spec.Instructions, i => i.Address), ProbeDetails.Of(spec));
            return probe is not null;
        }
    }

    private static bool IsAsIn(Probe probe, ProbeSpec spec)
    {
        int sites = spec.Instructions.Length;
        if (probe.Module != spec.Module || probe.SiteCount != sites + spec.IsEnabledInstructions.Length || probe.IsEnabledSites.Length != spec.IsEnabledInstructions.Length)
        {
            return false;
        }

        for (int i = 0; i < sites; i++)
        {
            if (probe.GetSite(i) != spec.Instructions[i].Address)
            {
                return false;
            }
        }

        return probe.FunctionLength == spec.FunctionLength || probe.FunctionAddress == 0;
    }

    /// <summary>Puts a probe on its tracepoints, which are found or made: on all of them or on none.</summary>
    private bool TryPlace(Probe probe, ProbeSpec spec, out ProbeRefusal refusal)
    {
        refusal = ProbeRefusal.None;
        if (IsOtherCode(spec.Instructions) || IsOtherCode(spec.IsEnabledInstructions))
        {
            refusal = ProbeRefusal.CodeChanged;
            return false;
        }

        bool isAfter = spec.Kind is ProbeKind.Return or ProbeKind.PostOffset;
        Place(probe, spec.Instructions, isAfter);
        Place(probe, spec.IsEnabledInstructions, isAfter: true);
        return true;
    }

    private bool IsOtherCode(DisplacedInstruction[] instructions)
    {
        for (int i = 0; i < instructions.Length; i++)
        {
            if (FindTracepoint(instructions[i].Address) is { } existing && !existing.Instruction.Bytes.SequenceEqual(instructions[i].Bytes))
            {
                return true;
            }
        }

        return false;
    }

    private void Place(Probe probe, DisplacedInstruction[] instructions, bool isAfter)
    {
        for (int i = 0; i < instructions.Length; i++)
        {
            ref readonly DisplacedInstruction instruction = ref instructions[i];
            Tracepoint? tracepoint = FindTracepoint(instruction.Address);
            if (tracepoint is null)
            {
                tracepoint = new Tracepoint(instruction);
                _fresh.Add(instruction.Address, tracepoint);
            }
            else
            {
                WantArmed(tracepoint);
            }

            if (isAfter)
            {
                tracepoint.After = tracepoint.After.With(probe);
            }
            else
            {
                tracepoint.Before = tracepoint.Before.With(probe);
            }
        }
    }

    /// <summary>A tracepoint that is there may rest with its enablings.</summary>
    private void WantArmed(Tracepoint? tracepoint)
    {
        if (tracepoint is not null)
        {
            NoteIfBare(tracepoint);
            _jump.Change(tracepoint);
        }

        if (tracepoint is { ArmedBy: null } && !_fresh.ContainsKey(tracepoint.Address))
        {
            _unarmed.Add(tracepoint);
        }
    }

    private Tracepoint? FindTracepoint(ulong address) =>
        _table.Find(address) ?? (_fresh.TryGetValue(address, out Tracepoint? tracepoint) ? tracepoint : null);

    private void Publish(Dictionary<ulong, Tracepoint>.ValueCollection fresh)
    {
        if (fresh.Count == 0)
        {
            return;
        }

        TracepointTable former = _table;
        int version = former.Version;
        TracepointTable made = Process.Thread.Make(Process, former.Count + fresh.Count, () => former.With(fresh));
        if (!IsGone)
        {
            _table = ReferenceEquals(former, _table) && former.Version == version ? made : _table.With(fresh);
        }
    }

    /// <summary>Makes a smaller table once most of it has gone: what goes one by one costs no table each.</summary>
    private void Compact()
    {
        if (_table.IsSparse)
        {
            _table = _table.With([]);
        }
    }
}
