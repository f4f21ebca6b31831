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

    /// <summary>Trampolines, or pages of text, between two looks for reports.</summary>
    private const int SliceLength = 16;

    /// <summary>More than a window's instructions need.</summary>
    private const int RelocatedLength = 384;

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
        ulong end = 0;
        int done = 0;
        foreach (Tracepoint tracepoint in order)
        {
            if (!TryFindProgram(tracepoint, out EnabledProbe? enabled, out string reason))
            {
                TellBreakpoint(tracepoint, reason);
                continue;
            }

            ISiteProgram program = enabled!.Enabling.Program!;
            JumpSite? site = null;
            if (program.Mechanism != ProbeMechanism.Breakpoint)
            {
                if (!prepared.TryGetValue(program, out string? problem))
                {
                    problem = program.Prepare(_proc, order.Length);
                    prepared.Add(program, problem);
                }

                reason = problem ?? "";
                if (problem is not null)
                {
                    reason = problem;
                }
                else if (program.Mechanism == ProbeMechanism.InProcessTrap || !TryChoose(tracepoint, enabled, windows, end, out site, out reason) || !TryBuild(site!, order.Length, out reason))
                {
                    site = TryTrap(tracepoint, enabled, windows, order.Length, ref reason);
                }
            }
            else
            {
                reason = "another mechanism was not allowed";
            }

            if (site is not null)
            {
                end = Math.Max(site.Window.CodeEnd, site.PatchEnd);
                chosen.Add(site);
            }
            else
            {
                Refuse(tracepoint, enabled, reason, failed);
            }

            if (++done % SliceLength == 0)
            {
                yield return true;
                if (_proc.IsGone)
                {
                    yield break;
                }
            }
        }

        _index = _index.With(chosen);
        for (int first = 0; first < chosen.Count; first += ChunkLength)
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
                    Refuse(site.Tracepoint, site.Enabled, site.Demotion!, failed);
                }
                else if (RefusalOf(site.Enabled.Enabling.Program!) is var refusal and not ProbeRefusal.None)
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
        Tracepoint tracepoint, EnabledProbe enabled, string reason, List<(Tracepoint Tracepoint, ProbeRefusal Refusal, string? Reason)> failed)
    {
        ISiteProgram program = enabled.Enabling.Program!;
        if (RefusalOf(program) is var refusal and not ProbeRefusal.None)
        {
            failed.Add((tracepoint, refusal, reason));
        }
        else
        {
            program.OnArmed(enabled, tracepoint.Address, ProbeMechanism.Breakpoint, reason);
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

    /// <summary>The one consumer of a tracepoint, if it has a program.</summary>
    private static bool TryFindProgram(Tracepoint tracepoint, out EnabledProbe? enabled, out string reason)
    {
        enabled = null;
        reason = "several probes, or several enablings, share the instruction";
        Probe? only = null;
        foreach (Probe probe in tracepoint.Before)
        {
            if (only is not null)
            {
                return false;
            }

            only = probe;
        }

        foreach (Probe probe in tracepoint.After)
        {
            if (only is not null)
            {
                return false;
            }

            only = probe;
        }

        if (only is null)
        {
            return false;
        }

        foreach (EnabledProbe candidate in only.Enabled)
        {
            if (enabled is not null)
            {
                enabled = null;
                return false;
            }

            enabled = candidate;
        }

        reason = "";
        return enabled?.Enabling.Program is not null;
    }

    private bool TryChoose(
        Tracepoint tracepoint, EnabledProbe enabled, IReadOnlyDictionary<ulong, SiteWindow> windows, ulong end, out JumpSite? site, out string reason)
    {
        site = null;
        if (!FiresBefore(tracepoint, enabled.Probe, out reason))
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

        Span<byte> now = stackalloc byte[LongestWindow];
        now = now[..(int)(last - window.Start)];
        if (_proc.ReadMemory(window.Start, now) != now.Length || !now.SequenceEqual(found.Original.AsSpan(0, now.Length)))
        {
            reason = "its code has changed";
            return false;
        }

        site = new JumpSite(tracepoint, enabled, window) { Original = found.Original };
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
        if (!site.Enabled.Enabling.Program!.TryCompile(site.Enabled, site.Tracepoint, out byte[]? body, out reason)
            || !_code.TryFind(site.Start, body.Length + RelocatedLength, (long)expectedSites * (body.Length + LongestWindow), out TrampolineArea? area, out reason)
            || !_journal.TryReserve(expectedSites, out reason))
        {
            return false;
        }

        PatchWindow window = site.Window;
        _relocator.Begin(window, site.IsTrap ? WithoutMark(site.Original) : site.Original, area.Next);
        if (!_relocator.TryMoveUntil(window.Site, out WindowRefusal refusal) || !TryAddBody(site, body, out refusal) || !_relocator.TryFinish(out refusal))
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
        Probe probe = site.Enabled.Probe;
        ref readonly DisplacedInstruction instruction = ref site.Tracepoint.Instruction;
        if (probe.Kind == ProbeKind.Return && !instruction.Has(DisplacedTraits.Return))
        {
            if (instruction.Has(DisplacedTraits.Indirect))
            {
                return _relocator.TryAddBodyIfOutside(
                    body, (probe.FunctionAddress, probe.FunctionLength), (probe.Details?.ColdStart ?? 0, probe.Details?.ColdLength ?? 0), out refusal);
            }

            // Behind the last instruction of a function it is left in both cases.
            if (instruction.Has(DisplacedTraits.Conditional) && probe.IsInFunction(instruction.NextAddress))
            {
                return _relocator.TryAddBodyIfTaken(body, out refusal);
            }
        }

        _relocator.AddBody(body);
        refusal = WindowRefusal.None;
        return true;
    }

    /// <summary>Takes all steps at some thousand sites. Those that cannot be armed are marked with the reason.</summary>
    private IEnumerator<bool> ArmChunk(JumpSite[] chunk)
    {
        List<JumpSite> failing = [];

        // Without it a tracer that is killed leaves traps that kill, as it does with breakpoints.
        _ = Guard.Prepare(chunk.Length);
        if (_proc.IsGone)
        {
            yield break;
        }

        Guard.SetRanges(_code.Mapped);
        foreach (JumpSite site in chunk)
        {
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

        foreach (JumpSite site in chunk)
        {
            if (site.State == JumpState.Leading && failing.Contains(site))
            {
                site.Demotion ??= "its code has changed";
            }
            else if (site is { State: JumpState.Leading, Demotion: null, IsTrap: false })
            {
                site.State = JumpState.Armed;
                site.Enabled.Enabling.Program!.OnArmed(site.Enabled, site.Tracepoint.Address, ProbeMechanism.Jump, null);
            }
        }

        TellTraps(chunk);
    }

    /// <summary>Between two steps: every processor passes through the kernel.</summary>
    private bool TryPass() => _proc.Process.Thread.PassProcessors(_proc.Process) || _proc.Process.Thread.Visit(_proc.Process, new PassVisit(this));

    private static void Demote(JumpSite[] chunk, bool isSeen)
    {
        if (!isSeen)
        {
            foreach (JumpSite site in chunk.Where(s => !s.IsTrap))
            {
                site.Demotion ??= "a thread of the process could not be looked at in time";
            }
        }
    }

    /// <summary>Takes one step at the sites that lead, or are armed, page by page.</summary>
    private IEnumerable<bool> Take(JumpSite[] sites, JumpStep step, List<JumpSite> failing)
    {
        bool isArming = step <= JumpStep.JumpHead;
        JumpSite[] meant = Array.FindAll(sites, s => s.State is JumpState.Leading or JumpState.Armed or JumpState.Leaving && !(isArming && (s.Demotion is not null || (s.IsTrap && step != JumpStep.Trap))) && !failing.Contains(s));
        for (int first = 0, pages = 1; first < meant.Length; pages++)
        {
            first += _text.WritePage(meant.AsSpan(first), step, failing);
            if (pages % SliceLength == 0)
            {
                yield return true;
                if (_proc.IsGone)
                {
                    yield break;
                }
            }
        }
    }
}
