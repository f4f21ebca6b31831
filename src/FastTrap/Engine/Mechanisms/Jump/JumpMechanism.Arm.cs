using FastTrap.Control;
using FastTrap.Isa;
using FastTrap.Isa.X64;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Choosing what is armed by Jump, making trampolines, and arming.</summary>
internal sealed partial class JumpMechanism
{
    /// <summary>Sites between two visits: so long may a hot function run by its trap.</summary>
    private const int ChunkLength = 4096;

    /// <summary>More than a window's instructions need.</summary>
    public const int RelocatedLength = 384;

    private const int LongestWindow = 64;

    /// <summary>
    /// Arms what can be armed by Jump, and leaves the rest to Breakpoint, or adds it to those that fail because nothing else was allowed. The table has the tracepoints already, unarmed.
    /// </summary>
    /// <param name="order">Tracepoints in the order of addresses.</param>
    /// <param name="windows">The windows that were found; null: none were sought.</param>
    /// <param name="failed">Takes those that fail.</param>
    public IEnumerator<bool> Arm(
        Tracepoint[] order, IReadOnlyDictionary<ulong, SiteWindow> windows, List<(Tracepoint Tracepoint, ProbeRefusal Refusal, string? Reason)> failed)
    {
        List<JumpSite> chosen = [];
        Dictionary<ISiteProgram, string?> prepared = [];
        CodeView text = new(_proc);
        ulong end = 0;
        _proc.Process.Thread.PrepareAside();
        foreach (Tracepoint tracepoint in order)
        {
            if (IsSliceOver || _proc.IsGone)
            {
                yield return true;
                if (_proc.IsGone)
                {
                    yield break;
                }

                text.Forget();
            }

            if (!TryFindPrograms(tracepoint, out EnabledProbe[] consumers, out string reason))
            {
                TellBreakpoint(tracepoint, reason);
                continue;
            }

            JumpSite? site = null;
            if (TryPrepare(consumers, order.Length, prepared, out reason)
                && (WantedOf(consumers) == ProbeMechanism.InProcessTrap || !TryChoose(tracepoint, consumers, windows, text, end, out site, out reason) || !TryBuild(site!, order.Length, out reason)))
            {
                site = TryTrap(tracepoint, consumers, windows, order.Length, ref reason);
            }

            if (site is not null)
            {
                end = Math.Max(site.Window.CodeEnd, site.PatchEnd);
                chosen.Add(site);
                _ = Ageing.IsDue(chosen.Count) && _proc.Process.Thread.TryRunAside(_proc.Process, Ageing.Collect);
            }
            else
            {
                Refuse(tracepoint, consumers, reason, failed);
            }
        }

        PublishMade(chosen.Count, i => i.With(chosen));
        _byTracepoint.EnsureCapacity(_byTracepoint.Count + chosen.Count);
        _ = chosen.Count >= Ageing.PieceLength && _proc.Process.Thread.TryRunAside(_proc.Process, () => Ageing.Complete(chosen[^1]));
        if (_proc.IsGone)
        {
            yield break;
        }

        // Without it a tracer that is killed leaves traps that kill, as it does with breakpoints.
        _ = chosen.Count == 0 ? null : Guard.Prepare(chosen.Count);
        for (int first = 0; first < chosen.Count && !_proc.IsGone; first += ChunkLength)
        {
            JumpSite[] chunk = [.. chosen.Skip(first).Take(ChunkLength)];
            using IEnumerator<bool> steps = ArmChunk(chunk);
            while (steps.MoveNext())
            {
                yield return true;
                if (_proc.IsGone)
                {
                    yield break;
                }
            }

            foreach (JumpSite site in chunk.Where(s => s.Demotion is not null))
            {
                Release(site);
                if (site.State == JumpState.Gone)
                {
                    // Nothing was written. What stands there now is looked at once more.
                    Refuse(site.Tracepoint, site.Consumers, site.Demotion!, failed);
                }
                else if (RefusalOf(site.Consumers) is var refusal and not ProbeRefusal.None)
                {
                    site.IsAbandoned = true;
                    failed.Add((site.Tracepoint, refusal, site.Demotion));
                }
            }
        }

        using IEnumerator<bool> retiring = Retire();
        while (retiring.MoveNext())
        {
            yield return true;
            if (_proc.IsGone)
            {
                yield break;
            }
        }
    }

    private static void Refuse(
        Tracepoint tracepoint, EnabledProbe[] consumers, string reason, List<(Tracepoint Tracepoint, ProbeRefusal Refusal, string? Reason)> failed)
    {
        if (RefusalOf(consumers) is var refusal and not ProbeRefusal.None)
        {
            failed.Add((tracepoint, refusal, reason));
        }
        else
        {
            TellBreakpoint(tracepoint, reason);
        }
    }

    /// <summary>Programs among several consumers run by the interpreter.</summary>
    private static void TellBreakpoint(Tracepoint tracepoint, string reason)
    {
        foreach (Probe probe in tracepoint.Before.ToArray().Union(tracepoint.After.ToArray()))
        {
            foreach (EnabledProbe enabled in probe.Enabled)
            {
                enabled.Enabling.Program?.OnArmed(enabled, tracepoint.Address, ProbeMechanism.Breakpoint, reason);
            }
        }
    }

    /// <summary>The consumers of a tracepoint in the order in which they are told of hits, if all have programs.</summary>
    private static bool TryFindPrograms(Tracepoint tracepoint, out EnabledProbe[] consumers, out string reason)
    {
        consumers = ConsumersOf(tracepoint);
        reason = "a consumer of the instruction has no program";
        return consumers.Length != 0 && Array.TrueForAll(consumers, c => c.Enabling.Program is not null);
    }

    private static EnabledProbe[] ConsumersOf(Tracepoint tracepoint)
    {
        if (tracepoint is { Before.Count: 1, After.IsEmpty: true } or { Before.IsEmpty: true, After.Count: 1 })
        {
            // As nearly all are, of whole libraries.
            foreach (Probe probe in tracepoint.Before.IsEmpty ? tracepoint.After : tracepoint.Before)
            {
                return probe.Enabled.ToArray();
            }
        }

        return [.. tracepoint.Before.ToArray().Concat(tracepoint.After.ToArray()).SelectMany(p => p.Enabled.ToArray())];
    }

    /// <summary>Has the target prepared for the programs, each once.</summary>
    private bool TryPrepare(EnabledProbe[] consumers, int expectedSites, Dictionary<ISiteProgram, string?> prepared, out string reason)
    {
        foreach (EnabledProbe consumer in consumers)
        {
            ISiteProgram program = consumer.Enabling.Program!;
            if (program.Mechanism != ProbeMechanism.Auto && program.Mechanism != WantedOf(consumers))
            {
                reason = "queries at the instruction ask for different mechanisms";
                return false;
            }

            if (!prepared.TryGetValue(program, out string? problem))
            {
                problem = program.Mechanism == ProbeMechanism.Breakpoint ? "another mechanism was not allowed" : program.Prepare(_proc, expectedSites);
                prepared.Add(program, problem);
            }

            if (problem is not null)
            {
                reason = problem;
                return false;
            }
        }

        reason = "";
        return true;
    }

    /// <summary>Whether all probes fire before the instruction, or all on the same way out of a function.</summary>
    private static bool FiresTogether(Tracepoint tracepoint, EnabledProbe[] consumers, out string reason)
    {
        reason = "whether the probe fires is known only after the instruction";
        foreach (EnabledProbe consumer in consumers)
        {
            if (consumer.Probe.Kind == ProbeKind.PostOffset || consumer.Probe.IsTestAt(tracepoint.Address))
            {
                return false;
            }
        }

        reason = "probes that share the instruction do not all fire when it leaves the function";
        Probe first = consumers[0].Probe;
        bool isOnWayOut = FiresOnWayOut(tracepoint, first);
        foreach (EnabledProbe consumer in consumers)
        {
            if (FiresOnWayOut(tracepoint, consumer.Probe) != isOnWayOut
                || (isOnWayOut && (consumer.Probe.FunctionAddress, consumer.Probe.FunctionLength) != (first.FunctionAddress, first.FunctionLength)))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Whether the instruction is a jump by which the function of a return probe may be left, or not.</summary>
    private static bool FiresOnWayOut(Tracepoint tracepoint, Probe probe)
    {
        ref readonly DisplacedInstruction instruction = ref tracepoint.Instruction;

        // Behind the last instruction of a function it is left in both cases.
        return probe.Kind == ProbeKind.Return && !instruction.Has(DisplacedTraits.Return)
            && (instruction.Has(DisplacedTraits.Indirect) || (instruction.Has(DisplacedTraits.Conditional) && probe.IsInFunction(instruction.NextAddress)));
    }

    private bool TryChoose(
        Tracepoint tracepoint, EnabledProbe[] consumers, IReadOnlyDictionary<ulong, SiteWindow> windows, CodeView text, ulong end, out JumpSite? site, out string reason)
    {
        site = null;
        if (!FiresTogether(tracepoint, consumers, out reason))
        {
            return false;
        }

        if (!windows.TryGetValue(tracepoint.Address, out SiteWindow found))
        {
            reason = "no window was sought";
            return false;
        }

        if (found.Reason is not null)
        {
            reason = found.Reason;
            return false;
        }

        PatchWindow window = found.Window;
        ulong last = Math.Max(window.CodeEnd, window.Start + (ulong)window.PatchLength);
        reason = "another probe lies in its window";
        if (window.Start < end)
        {
            return false;
        }

        for (ulong address = window.Start; address < last; address++)
        {
            if ((address != tracepoint.Address && _proc.Table.Find(address) is not null) || _index.FindWindow(address) is not null
                || _proc.Process.ControlBreakpoints.Find(address) is not null || _islandBytes.Contains(address))
            {
                return false;
            }
        }

        if (!text.Shows(window.Start, found.Original.AsSpan(0, (int)(last - window.Start))))
        {
            reason = "its code has changed";
            return false;
        }

        site = new JumpSite(tracepoint, consumers, window) { Original = found.Original };
        return window.Island == 0 || TryTakeIsland(site, ref reason);
    }

    private bool TryTakeIsland(JumpSite site, ref string reason)
    {
        ulong island = site.Window.Island;
        byte[] now = new byte[PatchWindow.NearLength];
        for (int i = 0; i < now.Length; i++)
        {
            ulong address = island + (ulong)i;
            if (_islandBytes.Contains(address) || _index.FindWindow(address) is not null || _proc.Table.Find(address) is not null)
            {
                reason = "the padding near by serves another site";
                return false;
            }
        }

        if (_platform.ReadCode(_memory, island, now) != now.Length)
        {
            reason = "the padding near by cannot be read";
            return false;
        }

        site.IslandOriginal = now;
        return true;
    }

    private bool TryBuild(JumpSite site, int expectedSites, out string reason)
    {
        _bodies.ResetWrittenCount();
        foreach (EnabledProbe consumer in site.Consumers)
        {
            if (!consumer.Enabling.Program!.TryCompile(consumer, site.Tracepoint, _bodies, out reason))
            {
                return false;
            }
        }

        ReadOnlySpan<byte> bodies = _bodies.WrittenSpan;
        if (!_code.TryFind(site.Start, bodies.Length + RelocatedLength, (long)expectedSites * (bodies.Length + LongestWindow), out TrampolineArea? area, out reason)
            || !_journal.TryReserve(expectedSites, out reason))
        {
            return false;
        }

        PatchWindow window = site.Window;
        _relocator.Begin(window, site.IsTrap ? WithoutMark(site.Original) : site.Original, area.Next);
        if (!_relocator.TryMoveUntil(window.Site, out WindowRefusal refusal) || !TryAddBody(site, bodies, out refusal) || !_relocator.TryFinish(out refusal))
        {
            reason = refusal.Describe();
            return false;
        }

        site.Patch = new byte[window.PatchLength];
        site.IslandPatch = window.Island == 0 ? [] : new byte[PatchWindow.NearLength];
        if (!window.TryEncode(area.Next, site.Patch, site.IslandPatch))
        {
            reason = WindowRefusal.OutOfReach.Describe();
            return false;
        }

        site.Code = new Trampoline(_relocator);
        site.Area = area;
        area.Add(_relocator.Code);
        for (int i = 0; i < site.IslandPatch.Length; i++)
        {
            _islandBytes.Add(window.Island + (ulong)i);
        }

        return true;
    }

    /// <summary>The program in front of the probed instruction; where that is a jump by which the function may be left, on the way out only.</summary>
    private bool TryAddBody(JumpSite site, ReadOnlySpan<byte> body, out WindowRefusal refusal)
    {
        Probe probe = site.Consumers[0].Probe;
        if (FiresOnWayOut(site.Tracepoint, probe))
        {
            return site.Tracepoint.Instruction.Has(DisplacedTraits.Indirect)
                ? _relocator.TryAddBodyIfOutside(
                    body, (probe.FunctionAddress, probe.FunctionLength), (probe.Details?.ColdStart ?? 0, probe.Details?.ColdLength ?? 0), out refusal)
                : _relocator.TryAddBodyIfTaken(body, out refusal);
        }

        _relocator.AddBody(body);
        refusal = WindowRefusal.None;
        return true;
    }

    /// <summary>Takes all steps at some thousand sites. Those that cannot be armed are marked with the reason.</summary>
    private IEnumerator<bool> ArmChunk(JumpSite[] chunk)
    {
        List<JumpSite> failing = [];
        Guard.SetRanges(_code.Mapped);
        foreach (JumpSite site in chunk)
        {
            if (IsSliceOver)
            {
                yield return true;
                if (_proc.IsGone)
                {
                    yield break;
                }
            }

            if (site.State != JumpState.Planned)
            {
                // Its library went.
                continue;
            }

            if (!_journal.TryAdd(site, out string problem))
            {
                site.State = JumpState.Gone;
                site.Demotion = problem;
            }
            else if (site.Tracepoint.IsUsed && _text.WriteIsland(site, isIn: true))
            {
                Guard.Add(site.Start, site.Code!.Address);
                site.State = JumpState.Leading;
                site.Tracepoint.ArmedBy = this;
                _byTracepoint[site.Tracepoint] = site;
            }
            else
            {
                site.State = JumpState.Gone;
                site.Demotion = "its code has changed";
            }
        }

        foreach (bool slice in Take(chunk, JumpStep.Trap, failing))
        {
            yield return slice;
        }

        foreach (JumpSite site in failing)
        {
            _ = JumpText.Restore(_platform, _memory, site);
            Guard.Retire(site.Start);
            site.State = JumpState.Gone;
            site.Tracepoint.ArmedBy = null;
            _byTracepoint.Remove(site.Tracepoint);
            site.Demotion = "its code has changed";
        }

        _proc.Core.CountTracepoints(chunk.Count(s => s.State == JumpState.Leading));

        if (Array.TrueForAll(chunk, s => s.IsTrap))
        {
            TellTraps(chunk);
            yield break;
        }

        bool isSeen = _proc.Process.Thread.Visit(_proc.Process, new ArmingVisit(this, _stacks, chunk));
        if (_proc.IsGone)
        {
            yield break;
        }

        Demote(chunk, isSeen);
        foreach (bool slice in Take(chunk, JumpStep.JumpTail, failing))
        {
            yield return slice;
        }

        if (_proc.IsGone)
        {
            yield break;
        }

        isSeen = TryPass();
        if (_proc.IsGone)
        {
            yield break;
        }

        Demote(chunk, isSeen);
        foreach (bool slice in Take(chunk, JumpStep.JumpHead, failing))
        {
            yield return slice;
        }

        foreach (bool slice in FinishArming(chunk, failing))
        {
            yield return slice;
        }
    }

    private IEnumerable<bool> FinishArming(JumpSite[] chunk, List<JumpSite> failing)
    {
        foreach (JumpSite site in chunk)
        {
            if (IsSliceOver)
            {
                yield return true;
                if (_proc.IsGone)
                {
                    yield break;
                }
            }

            if (site.State == JumpState.Leading && failing.Contains(site))
            {
                site.Demotion ??= "its code has changed";
            }
            else if (site is { State: JumpState.Leading, Demotion: null, IsTrap: false })
            {
                site.State = JumpState.Armed;
                foreach (EnabledProbe consumer in site.Consumers)
                {
                    consumer.Enabling.Program!.OnArmed(consumer, site.Tracepoint.Address, ProbeMechanism.Jump, null);
                }
            }
        }

        TellTraps(chunk);
    }
}
