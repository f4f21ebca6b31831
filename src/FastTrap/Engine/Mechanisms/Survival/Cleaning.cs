using System.Buffers.Binary;
using System.Diagnostics;
using FastTrap.Control;
using FastTrap.Isa.X64;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Removes what another tracer has left. Control thread only.</summary>
/// <param name="proc">The process. It has no sites of this tracer.</param>
/// <param name="mechanism">Which takes sites and memory over.</param>
/// <param name="memory">The process's.</param>
/// <param name="stacks">Looks at stacks.</param>
/// <param name="left">What was found.</param>
internal sealed class Cleaning(Proc proc, JumpMechanism mechanism, TargetMemory memory, StackScan stacks, Leftovers left)
{
    private static readonly TimeSpan s_farewellTime = TimeSpan.FromSeconds(1);

    /// <summary>A thread that has to go on gets the processor meanwhile.</summary>
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(2);

    private static readonly TimeSpan s_returnTime = TimeSpan.FromSeconds(10);

    private readonly IPlatform _platform = proc.Process.Platform;

    /// <summary>
    /// Waits for threads that are still to come back from what that tracer had them do. Takes over the sites that were left and disarms them, as one's own; then, when nobody is in that tracer's memory, nor will come back to it from a signal handler, gives the action for SIGTRAP back and unmaps it.
    /// </summary>
    /// <param name="result">Takes what was done.</param>
    public IEnumerator<bool> Run(CleaningResult result)
    {
        mechanism.Adopted.Add(left);
        long start = Stopwatch.GetTimestamp();
        while (HasReturning() && !proc.IsGone)
        {
            if (Stopwatch.GetElapsedTime(start) > s_returnTime)
            {
                // Nothing was touched; the next attach tries again.
                mechanism.Adopted.Clear();
                result.Problem = "a thread is still to come back from a system call that it was to make for that tracer: if the process is stopped, let it go on, and attach again";
                yield break;
            }

            proc.Process.Thread.HandleReports(s_pause);
            yield return true;
        }

        bool isGivenBack = left.Covers.Count == 0 || TryUncover();
        JumpSite[] sites = [.. left.Sites.GroupBy(s => s.Start).Select(g => g.LastOrDefault(Shows) ?? g.Last())];
        foreach (JumpSite trap in sites.Where(s => s.Code!.Length == 0))
        {
            result.Sites += TryRestoreTrap(trap) ? 1 : 0;
        }

        sites = Array.FindAll(sites, s => s.Code!.Length != 0);
        foreach (JumpSite site in sites)
        {
            TakeFormerJump(site);
            result.Sites += IsThere(site) ? 1 : 0;
        }

        mechanism.Adopt(sites);
        using (IEnumerator<bool> retiring = mechanism.Retire())
        {
            while (retiring.MoveNext())
            {
                yield return true;
            }
        }

        if (proc.IsGone || mechanism.HasReleased)
        {
            result.RegionsLeft = left.Regions.Count;
            yield break;
        }

        foreach (ulong semaphore in left.Semaphores)
        {
            proc.Semaphores.LowerLeft(semaphore);
        }

        // Who comes back from a signal handler into a trampoline is led out, too, or waited for.
        mechanism.AdoptAgain(sites);
        start = Stopwatch.GetTimestamp();
        bool isEmpty = false;
        while (!isEmpty && !proc.IsGone && Stopwatch.GetElapsedTime(start) < s_farewellTime)
        {
            FarewellVisit visit = new(mechanism, stacks, left.Covers);
            isEmpty = proc.Process.Thread.Visit(proc.Process, visit) && !visit.IsAwaited;
            if (!isEmpty)
            {
                proc.Process.Thread.HandleReports(s_pause);
            }

            yield return true;
        }

        mechanism.Disown(sites);
        if (proc.IsGone)
        {
            yield break;
        }

        Remove(isEmpty && isGivenBack, result);
        mechanism.Adopted.Clear();
    }

    private bool HasReturning()
    {
        ReturningVisit visit = new(mechanism.Adopted);
        return !proc.Process.Thread.Visit(proc.Process, visit) || visit.HasFound;
    }

    /// <summary>A tracer that was killed while a site got another trampoline may have left the jump to the one before, or the rest of it behind a trap: to what is written down of the new one.</summary>
    private void TakeFormerJump(JumpSite site)
    {
        if (site.IsTrap)
        {
            return;
        }

        Span<byte> now = stackalloc byte[PatchWindow.NearLength];
        ulong jump = site.Window.Island == 0 ? site.Start : site.Window.Island;
        bool isTrap = _platform.ReadCode(memory, jump, now) == now.Length && site.Window.Island == 0 && now[0] == JumpText.Trap;
        ulong target = jump + PatchWindow.NearLength + (ulong)BinaryPrimitives.ReadInt32LittleEndian(now[1..]);
        if (!(isTrap || now[0] == PatchWindow.NearJump) || !left.Code.Any(c => target - c.Start < c.Length))
        {
            return;
        }

        byte[] former = [PatchWindow.NearJump, .. now[1..]];
        if (site.Window.Island == 0)
        {
            site.Patch = former;
        }
        else
        {
            site.IslandPatch = former;
        }
    }

    /// <summary>Whether the text shows a site, of several that were written down for one place.</summary>
    private bool Shows(JumpSite site)
    {
        Span<byte> now = stackalloc byte[site.PatchLength];
        return _platform.ReadCode(memory, site.Start, now) == now.Length && (site.Code!.Length == 0 ? now.StartsWith(site.Patch) : JumpText.IsOurs(site, now));
    }

    /// <summary>Whether a site stands in the text. One that does not is not touched: behind a trap the rest of the instruction must stand as well.</summary>
    private bool IsThere(JumpSite site)
    {
        Span<byte> now = stackalloc byte[site.IsTrap ? site.Original.Length : site.PatchLength];
        bool isThere = _platform.ReadCode(memory, site.Start, now) == now.Length && JumpText.IsOurs(site, now[..site.PatchLength])
            && (!site.IsTrap || now[1..].SequenceEqual(site.Original.AsSpan(1)));
        if (!isThere && site.IsTrap)
        {
            site.State = JumpState.Gone;
        }

        return isThere;
    }

    /// <summary>Restores an instruction in whose place a trap stands that leads nowhere. False if none does.</summary>
    private bool TryRestoreTrap(JumpSite trap)
    {
        trap.State = JumpState.Gone;
        Span<byte> now = stackalloc byte[trap.Original.Length];
        bool isThere = _platform.ReadCode(memory, trap.Start, now) == now.Length && now.StartsWith(trap.Patch)
            && now[trap.Patch.Length..].SequenceEqual(trap.Original.AsSpan(trap.Patch.Length))
            && _platform.WriteCode(memory, trap.Start, trap.Original.AsSpan(0, trap.Patch.Length)) == trap.Patch.Length;
        if (isThere)
        {
            proc.OnTrapRemoved(trap.Start, trap.Original.AsSpan(0, trap.Patch.Length));
        }

        return isThere;
    }

    /// <summary>The target's own handlers of signals take their places again.</summary>
    private bool TryUncover()
    {
        bool isDone = false;
        _ = proc.Process.Thread.TryBorrow(proc.Process, task => isDone = left.Covers.All(c => SignalCover.GiveBack(proc.Process, task, c.Start) == Errno.None));
        return isDone;
    }

    private void Remove(bool isEmpty, CleaningResult result)
    {
        ProcessHandle process = proc.Process;
        result.RegionsLeft = left.Regions.Count;
        _ = process.Thread.TryBorrow(process, task =>
        {
            foreach (int descriptor in left.Descriptors)
            {
                _ = RemoteMap.Invoke(process, task, n => n.Close, [(ulong)descriptor]);
            }

            foreach ((ulong start, _) in left.Guards)
            {
                if (!TryGiveBackAction(process, task, start))
                {
                    isEmpty = false;
                }
            }

            if (!isEmpty)
            {
                return;
            }

            foreach ((ulong start, ulong length) in left.Regions)
            {
                if (RemoteMap.Unmap(process, task, start, length) == Errno.None)
                {
                    result.Regions++;
                    result.RegionsLeft--;
                }
            }
        });
    }

    /// <summary>If the action for SIGTRAP is that guard's still, the target's own takes its place.</summary>
    private bool TryGiveBackAction(ProcessHandle process, TracedTask task, ulong guard)
    {
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        if (_platform.ReadMemory(task.ThreadId, guard + TrapGuard.StateOffset, word) != word.Length)
        {
            return false;
        }

        ulong state = BinaryPrimitives.ReadUInt64LittleEndian(word);
        if (state == 0)
        {
            // Another's table, or one that was never installed.
            return true;
        }

        // Where there is room for what is asked for: behind the actions.
        ulong seen = state + GuardState.Length - GuardAction.Length;
        byte[] bytes = new byte[GuardAction.Length];
        if (!left.Regions.Contains((state, (ulong)GuardState.Length))
            || RemoteMap.Invoke(process, task, n => n.RtSigAction, [Signal.SIGTRAP, 0, seen, sizeof(ulong)]) != Errno.None
            || _platform.ReadMemory(task.ThreadId, seen, bytes) != bytes.Length
            || _platform.ReadMemory(task.ThreadId, state + GuardState.CurrentOffset, word) != word.Length)
        {
            return false;
        }

        ulong own = BinaryPrimitives.ReadUInt64LittleEndian(word);
        return GuardAction.Read(bytes).Handler - guard >= CodeRegion.Alignment
            || (own - state < (ulong)(GuardState.Length - GuardAction.Length)
                && RemoteMap.Invoke(process, task, n => n.RtSigAction, [Signal.SIGTRAP, own, 0, sizeof(ulong)]) == Errno.None);
    }
}
