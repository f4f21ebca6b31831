using FastTrap.Control;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Disarming: the steps of arming in reverse, then everybody is led out of the trampolines. And what both have in common.</summary>
internal sealed partial class JumpMechanism
{
    /// <summary>
    /// Disarms all whose end was asked for. Of a tracepoint that is still wanted a trap stays. What cannot be brought to its end now stays released, leading, and is tried again.
    /// </summary>
    public IEnumerator<bool> Retire()
    {
        using (IEnumerator<bool> renewing = Renew())
        {
            while (renewing.MoveNext())
            {
                yield return true;
                if (_proc.IsGone)
                {
                    yield break;
                }
            }
        }

        while (_released.Count != 0)
        {
            foreach (JumpSite[] chunk in OrderReleased().Chunk(ChunkLength))
            {
                using IEnumerator<bool> steps = RetireChunk(chunk);
                while (steps.MoveNext())
                {
                    yield return true;
                    if (_proc.IsGone)
                    {
                        yield break;
                    }
                }

                if (_proc.IsGone)
                {
                    yield break;
                }

                if (Array.Exists(chunk, s => s.IsReleased))
                {
                    Sweep();
                    Log.JumpsLeft(_proc.Core.Logger, _proc.ProcessId, chunk.Length);
                    if (_waiting.Count != 0)
                    {
                        _proc.PostRetirement();
                    }

                    yield break;
                }
            }

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
    }

    /// <summary>Those whose end was asked for, in the order of addresses, as they stand in the index: sorting many takes longer than threads may wait.</summary>
    private JumpSite[] OrderReleased()
    {
        JumpSite[] released = new JumpSite[_released.Count];
        int count = 0;
        foreach (JumpSite site in _index.Sites)
        {
            if (site.IsReleased && count++ < released.Length)
            {
                released[count - 1] = site;
            }
        }

        if (count != released.Length)
        {
            // Some are not in it.
            released = [.. _released];
            Array.Sort(released, static (a, b) => a.Start.CompareTo(b.Start));
        }

        return released;
    }

    private IEnumerator<bool> RetireChunk(JumpSite[] chunk)
    {
        List<JumpSite> failing = [];
        foreach (bool slice in Take(chunk, JumpStep.Lead, failing))
        {
            yield return slice;
        }

        foreach (JumpSite site in chunk)
        {
            if (site.State == JumpState.Armed && !failing.Contains(site))
            {
                site.State = JumpState.Leading;
            }
        }

        DropForeign(failing);
        if (_proc.IsGone || !TryPass() || _proc.IsGone)
        {
            yield break;
        }

        foreach (bool slice in Take(chunk, JumpStep.OriginalTail, failing))
        {
            yield return slice;
        }

        DropForeign(failing);
        foreach (JumpSite site in chunk)
        {
            if (site.State == JumpState.Leading)
            {
                KeepTrap(site);
                site.State = JumpState.Leaving;
            }
        }

        if (_proc.IsGone)
        {
            yield break;
        }

        bool isSeen = _proc.Process.Thread.Visit(_proc.Process, new LeavingVisit(this));
        if (_proc.IsGone)
        {
            yield break;
        }

        if (!isSeen)
        {
            foreach (JumpSite site in chunk)
            {
                site.State = site.State == JumpState.Leaving ? JumpState.Leading : site.State;
            }

            LeadCounted();
            ReleaseHeld();
            yield break;
        }

        JumpSite[] whole = Array.FindAll(chunk, s => !(s.IsBypassed && s.Tracepoint.Address == s.Start));
        RestoreHeld(failing);
        foreach (bool slice in Take(whole, JumpStep.OriginalHead, failing))
        {
            ReleaseRestored();
            yield return slice;
            if (!_proc.IsGone)
            {
                RestoreHeld(failing);
            }
        }

        if (_proc.IsGone)
        {
            yield break;
        }

        ReleaseRestored();
        foreach (JumpSite site in chunk)
        {
            if (IsSliceOver)
            {
                ReleaseRestored();
                yield return true;
                if (_proc.IsGone)
                {
                    yield break;
                }
            }

            if (site.State == JumpState.Leaving)
            {
                _ = _text.WriteIsland(site, isIn: false);
                if (!(site.IsBypassed && site.Tracepoint.Address == site.Start && Traps.TryLead(site.Start)))
                {
                    Guard.Retire(site.Start);
                }

                site.State = JumpState.Gone;
                _ledger.Add(site);
                _proc.OnTrapRemoved(site.Start, site.Original.AsSpan(0, 1));
            }

            if (_byTracepoint.TryGetValue(site.Tracepoint, out JumpSite? current) && current == site)
            {
                _byTracepoint.Remove(site.Tracepoint);
            }
        }

        ReleaseHeld();
        ReleaseWaiting();
        Free([.. chunk, .. EmptySuperseded()]);
    }

    /// <summary>Those who stood in front of a fault get it, at the original instruction.</summary>
    private void ReleaseWaiting()
    {
        foreach ((TracedTask task, JumpSite site) in _waiting.ToArray())
        {
            if (site.Current.State == JumpState.Gone)
            {
                _waiting.Remove((task, site));
                _proc.Process.Thread.ReleaseStanding(task);
            }
        }
    }

    /// <summary>Those who wait, counted already, for a first byte that is not written now do not come to the trap there.</summary>
    private void LeadCounted()
    {
        foreach ((TracedTask task, ulong address, _) in _held)
        {
            if (_index.FindStart(address) is { IsCountedInFront: true, State: JumpState.Leading } site)
            {
                _proc.Process.Thread.MoveHeld(task, address, site.Code!.BehindBody);
            }
        }
    }

    /// <summary>Those who waited for a first byte go on.</summary>
    private void ReleaseHeld()
    {
        while (_held.Count != 0)
        {
            // Where the last thread has ended, nothing is held any more.
            TracedTask task = _held[^1].Task;
            _held.RemoveAt(_held.Count - 1);
            _proc.Process.Thread.Release(task);
        }
    }

    /// <summary>The first bytes that threads wait for come before all others: those are thousands.</summary>
    private void RestoreHeld(List<JumpSite> failing)
    {
        foreach ((_, _, JumpSite site) in _held)
        {
            if (site.State == JumpState.Leaving && !(site.IsBypassed && site.Tracepoint.Address == site.Start) && !failing.Contains(site) && !IsRestored(site))
            {
                _text.WritePage([site], JumpStep.OriginalHead, failing);
            }
        }

        ReleaseRestored();
    }

    /// <summary>Those before whom there is no trap any more go on, while others wait.</summary>
    private void ReleaseRestored()
    {
        for (int i = _held.Count - 1; i >= 0; i = Math.Min(i, _held.Count) - 1)
        {
            (TracedTask task, _, JumpSite site) = _held[i];
            if (IsRestored(site))
            {
                _held.RemoveAt(i);
                _proc.Process.Thread.Release(task);
            }
        }
    }

    private bool IsRestored(JumpSite site)
    {
        Span<byte> first = stackalloc byte[1];
        return _platform.ReadCode(_memory, site.Start, first) == first.Length && first[0] != JumpText.Trap;
    }

    /// <summary>What shows none of our steps is not ours any more, or never was.</summary>
    private void DropForeign(List<JumpSite> failing)
    {
        foreach (JumpSite site in failing)
        {
            if (site.State != JumpState.Gone)
            {
                _ = JumpText.Restore(_platform, _memory, site);
                Guard.Retire(site.Start);
                site.State = JumpState.Gone;
            }
        }
    }

    /// <summary>A tracepoint which others want, or which cannot be had by Jump, counts by a trap of its own from here on.</summary>
    private void KeepTrap(JumpSite site)
    {
        Tracepoint tracepoint = site.Tracepoint;
        if (tracepoint.ArmedBy != this || !tracepoint.IsUsed || site.IsAbandoned)
        {
            return;
        }

        if (tracepoint.Address == site.Start)
        {
            tracepoint.ArmedBy = _breakpoint;
        }
        else if (!_breakpoint.TryArm(tracepoint, out _))
        {
            // The memory goes; the linker tells of it.
            return;
        }

        site.IsBypassed = true;
        TellBreakpoint(tracepoint, site.Demotion ?? "");
    }

    private void Free(JumpSite[] chunk)
    {
        foreach (JumpSite site in chunk)
        {
            site.IsReleased = false;
            site.IsFreed = true;
            _journal.Remove(site);
            for (int i = 0; i < site.IslandPatch.Length && site.Successor is null; i++)
            {
                _islandBytes.Remove(site.Window.Island + (ulong)i);
            }

            site.Area?.Free();
            site.Area = null;
        }

        _released.RemoveAll(static s => !s.IsReleased);
    }

    /// <summary>Takes what was freed out of the index: all at once, for it is made anew. Before another trampoline is made in that memory.</summary>
    private void Sweep() => PublishMade(0, static i => i.WithoutFreed());

    private bool IsSliceOver => _proc.Process.Thread.IsSliceOver;

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
        for (int first = 0; first < meant.Length;)
        {
            first += _text.WritePage(meant.AsSpan(first), step, failing);
            if (IsSliceOver)
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
