using FastTrap.Control;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Sites whose consumers change get other trampolines, while threads run through them.</summary>
internal sealed partial class JumpMechanism
{
    /// <summary>
    /// Makes new trampolines for the sites whose consumers came or went. What cannot be had is released, to become a Breakpoint.
    /// </summary>
    private IEnumerator<bool> Renew()
    {
        JumpSite[] changed = [.. _changed.Where(IsRunning).OrderBy(s => s.Start)];
        _changed.Clear();
        Dictionary<ISiteProgram, string?> prepared = [];
        List<JumpSite> renewed = [];
        for (int i = 0; i < changed.Length; i++)
        {
            JumpSite site = changed[i];
            if (TryRenew(site, changed.Length, prepared, out JumpSite? next, out string reason))
            {
                renewed.Add(next!);
            }
            else if (reason.Length != 0)
            {
                site.Demotion ??= reason;
                Release(site);
            }

            if (IsSliceOver)
            {
                yield return true;
                if (_proc.IsGone)
                {
                    yield break;
                }
            }
        }

        foreach (JumpSite[] chunk in renewed.Chunk(ChunkLength))
        {
            using IEnumerator<bool> steps = RenewChunk(chunk);
            while (steps.MoveNext())
            {
                yield return true;
                if (_proc.IsGone)
                {
                    yield break;
                }
            }
        }
    }

    private static bool IsRunning(JumpSite site) => site is { IsReleased: false, State: JumpState.Leading or JumpState.Armed };

    /// <summary>Builds the trampoline for the consumers that there are now. False without a reason: they are those it has.</summary>
    private bool TryRenew(JumpSite site, int expectedSites, Dictionary<ISiteProgram, string?> prepared, out JumpSite? next, out string reason)
    {
        next = null;
        if (!TryFindPrograms(site.Tracepoint, out EnabledProbe[] consumers, out reason) || !TryPrepare(consumers, expectedSites, prepared, out reason)
            || !FiresTogether(site.Tracepoint, consumers, out reason))
        {
            return false;
        }

        if (consumers.AsSpan().SequenceEqual(site.Consumers))
        {
            reason = "";
            return false;
        }

        if (WantedOf(consumers) == (site.IsTrap ? ProbeMechanism.Jump : ProbeMechanism.InProcessTrap))
        {
            reason = "queries at the instruction ask for different mechanisms";
            return false;
        }

        next = new JumpSite(site.Tracepoint, consumers, site.Window)
        {
            Original = site.Original, IslandOriginal = site.IslandOriginal, TrapReason = site.TrapReason, Former = site,
        };
        return TryBuild(next, expectedSites, out reason);
    }

    /// <summary>
    /// The traps that lead to the former trampolines lead to the new ones, from one moment on; everybody leaves the former ones; then the jumps are written. Which trampoline a hit runs through tells which programs it counts for.
    /// </summary>
    private IEnumerator<bool> RenewChunk(JumpSite[] chunk)
    {
        List<JumpSite> failing = [];
        foreach (bool slice in Take(Array.ConvertAll(chunk, s => s.Former!), JumpStep.Lead, failing))
        {
            yield return slice;
        }

        if (_proc.IsGone)
        {
            yield break;
        }

        foreach (JumpSite site in chunk)
        {
            JumpSite former = site.Former!;
            if (failing.Remove(former))
            {
                former.Demotion ??= "its code has changed";
                Release(former);
            }

            if (IsRunning(former) && !_journal.TryAdd(site, out string problem))
            {
                former.Demotion ??= problem;
                Release(former);
            }
        }

        if (_proc.IsGone)
        {
            yield break;
        }

        // From here on no report is handled until the index is published: it shows those which lead now.
        foreach (JumpSite site in chunk)
        {
            JumpSite former = site.Former!;
            if (!IsRunning(former))
            {
                // Its end has come meanwhile, and the new one's before its beginning.
                _journal.Remove(site);
                site.State = JumpState.Gone;
                site.Area?.Free();
                continue;
            }

            Guard.Add(site.Start, site.Code!.Address);
            former.State = JumpState.Superseded;
            former.Successor = site;
            site.State = JumpState.Leading;
            _byTracepoint[site.Tracepoint] = site;
        }

        chunk = Array.FindAll(chunk, s => s.State == JumpState.Leading);
        Publish(_index.With(chunk, supersede: true));
        yield return true;
        if (_proc.IsGone)
        {
            yield break;
        }

        bool isSeen = _proc.Process.Thread.Visit(_proc.Process, new RenewingVisit(this));
        if (_proc.IsGone)
        {
            yield break;
        }

        Demote(chunk, isSeen);
        if (isSeen)
        {
            Free(EmptySuperseded());
            yield return true;
            if (_proc.IsGone)
            {
                yield break;
            }

            Sweep();
            yield return true;
            if (_proc.IsGone)
            {
                yield break;
            }
        }

        foreach (JumpSite site in chunk)
        {
            if (IsRunning(site) && site.Demotion is null && !_text.WriteIsland(site, isIn: true))
            {
                site.Demotion = "its code has changed";
            }
        }

        foreach (bool slice in Take(chunk, JumpStep.JumpTail, failing))
        {
            yield return slice;
        }

        if (_proc.IsGone)
        {
            yield break;
        }

        foreach (JumpSite site in chunk)
        {
            if (site.Demotion is null && !failing.Contains(site) && site.Former is { } former)
            {
                // A child that was forked before may still have its jump.
                _ledger.Add(former);
                site.Former = null;
            }
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

        if (_proc.IsGone)
        {
            yield break;
        }

        foreach (JumpSite site in chunk.Where(s => s.Demotion is not null))
        {
            Release(site);
        }
    }

    /// <summary>The superseded sites in whose trampolines nobody is, after a visit.</summary>
    private JumpSite[] EmptySuperseded() => [.. _index.Superseded.ToArray().Where(s => !s.IsFreed && !_waiting.Exists(w => w.Site == s))];
}
