using System.Buffers.Binary;
using System.Diagnostics;
using FastTrap.Control;
using FastTrap.Isa.X64;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Removing what another tracer has left.</summary>
internal sealed partial class JumpMechanism
{
    private static readonly TimeSpan s_farewellTime = TimeSpan.FromSeconds(1);

    private readonly List<(ulong Start, ulong Length)> _adopted = [];
    private readonly List<(ulong Start, ulong Length)> _adoptedGuards = [];

    /// <summary>
    /// Takes over the sites that were left and disarms them, as one's own; then, when nobody is in that tracer's memory, nor will come back to it from a signal handler, gives the action for SIGTRAP back and unmaps it.
    /// </summary>
    /// <param name="left">What was found. The process has no sites of this tracer.</param>
    /// <param name="result">Takes what was done.</param>
    public IEnumerator<bool> Clean(Leftovers left, CleaningResult result)
    {
        _adopted.AddRange(left.Code);
        _adoptedGuards.AddRange(left.Guards);
        bool isGivenBack = left.Covers.Count == 0 || TryUncover(left);
        JumpSite[] sites = [.. left.Sites.GroupBy(s => s.Start).Select(g => g.Last())];
        foreach (JumpSite trap in sites.Where(s => s.Code!.Length == 0))
        {
            result.Sites += TryRestoreTrap(trap) ? 1 : 0;
        }

        sites = Array.FindAll(sites, s => s.Code!.Length != 0);
        foreach (JumpSite site in sites)
        {
            result.Sites += IsThere(site) ? 1 : 0;
            Release(site);
        }

        _index = _index.With(sites);
        using (IEnumerator<bool> retiring = Retire())
        {
            while (retiring.MoveNext())
            {
                yield return true;
            }
        }

        if (_proc.IsGone || _released.Count != 0)
        {
            result.RegionsLeft = left.Regions.Count;
            yield break;
        }

        foreach (ulong semaphore in left.Semaphores)
        {
            _proc.Semaphores.LowerLeft(semaphore);
        }

        // Who comes back from a signal handler into a trampoline is led out, too, or waited for.
        _index = _index.With(sites);
        long start = Stopwatch.GetTimestamp();
        bool isEmpty = false;
        while (!isEmpty && !_proc.IsGone && Stopwatch.GetElapsedTime(start) < s_farewellTime)
        {
            FarewellVisit visit = new(this, _stacks, _adopted, left.Covers);
            isEmpty = _proc.Process.Thread.Visit(_proc.Process, visit) && !visit.IsAwaited;
            yield return true;
        }

        foreach (JumpSite site in sites)
        {
            site.IsFreed = true;
        }

        Sweep();
        if (_proc.IsGone)
        {
            yield break;
        }

        Remove(left, isEmpty && isGivenBack, result);
        _adopted.Clear();
        _adoptedGuards.Clear();
    }

    /// <summary>Whether a site stands in the text. One that does not is not touched: behind a trap the rest of the instruction must stand as well.</summary>
    private bool IsThere(JumpSite site)
    {
        Span<byte> now = stackalloc byte[site.IsTrap ? site.Original.Length : site.PatchLength];
        bool isThere = _platform.ReadCode(_memory, site.Start, now) == now.Length && JumpText.IsOurs(site, now[..site.PatchLength])
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
        bool isThere = _platform.ReadCode(_memory, trap.Start, now) == now.Length && now.StartsWith(trap.Patch)
            && now[trap.Patch.Length..].SequenceEqual(trap.Original.AsSpan(trap.Patch.Length))
            && _platform.WriteCode(_memory, trap.Start, trap.Original.AsSpan(0, trap.Patch.Length)) == trap.Patch.Length;
        if (isThere)
        {
            _proc.OnTrapRemoved(trap.Start, trap.Original.AsSpan(0, trap.Patch.Length));
        }

        return isThere;
    }

    /// <summary>Whether an address lies in memory that another tracer has left.</summary>
    private bool IsAdopted(ulong address) => _adopted.Count != 0 && IsIn(_adopted, address);

    private bool IsAdoptedGuard(ulong address) => _adoptedGuards.Count != 0 && IsIn(_adoptedGuards, address);

    private static bool IsIn(List<(ulong Start, ulong Length)> ranges, ulong address)
    {
        foreach ((ulong start, ulong length) in ranges)
        {
            if (address - start < length)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The target's own handlers of signals take their places again.</summary>
    private bool TryUncover(Leftovers left)
    {
        bool isDone = false;
        _ = _proc.Process.Thread.TryBorrow(_proc.Process, task => isDone = left.Covers.All(c => SignalCover.GiveBack(_proc.Process, task, c.Start) == Errno.None));
        return isDone;
    }

    private void Remove(Leftovers left, bool isEmpty, CleaningResult result)
    {
        ProcessHandle process = _proc.Process;
        result.RegionsLeft = left.Regions.Count;
        _ = process.Thread.TryBorrow(process, task =>
        {
            foreach (int descriptor in left.Descriptors)
            {
                _ = RemoteMap.Invoke(process, task, n => n.Close, [(ulong)descriptor]);
            }

            foreach ((ulong start, _) in left.Guards)
            {
                if (!TryGiveBackAction(process, task, start, left))
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
    private bool TryGiveBackAction(ProcessHandle process, TracedTask task, ulong guard, Leftovers left)
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

    /// <summary>Leads threads out of memory that is to go, and looks for signal frames that would bring one back.</summary>
    private sealed class FarewellVisit(JumpMechanism mechanism, StackScan stacks, List<(ulong Start, ulong Length)> ranges, IReadOnlyList<(ulong Start, ulong Length)> covers) : IThreadVisit
    {
        private readonly ulong _lowest = ranges.Count == 0 ? 0 : ranges.Min(r => r.Start);
        private readonly ulong _highest = ranges.Count == 0 ? 0 : ranges.Max(r => r.Start + r.Length);

        /// <summary>Whether a thread is still, or again, to be waited for.</summary>
        public bool IsAwaited { get; private set; }

        public bool TryPass(TracedTask task, in ProcSystemCall sleep)
        {
            if (mechanism.Contains(sleep.ProgramCounter))
            {
                return false;
            }

            Scan(task, sleep.StackPointer);
            return true;
        }

        public VisitOutcome Look(TracedTask task, ref RegisterSet registers)
        {
            Scan(task, registers.StackPointer);
            ulong pc = registers.ProgramCounter;
            if (!mechanism.Contains(pc))
            {
                return VisitOutcome.Unchanged;
            }

            // Where it comes out is seen by the next visit.
            IsAwaited = true;
            return mechanism.IsToStepOut(pc) ? VisitOutcome.StepOut : mechanism.Leave(ref registers) ? VisitOutcome.Changed : VisitOutcome.Unchanged;
        }

        private void Scan(TracedTask task, ulong stackPointer)
        {
            if (ranges.Count != 0)
            {
                foreach ((ulong start, ulong length) in covers)
                {
                    // A handler that was called from there comes back to it.
                    stacks.Scan(task.ThreadId, stackPointer, start, start + length - 1, _ => IsAwaited = true);
                }

                stacks.ScanFrames(task.ThreadId, stackPointer, pc => IsAwaited |= pc - _lowest < _highest - _lowest && IsIn(ranges, pc));
            }
        }
    }
}

/// <summary>What came of a cleaning.</summary>
internal sealed class CleaningResult
{
    /// <summary>Sites that stood in the text.</summary>
    public int Sites { get; set; }

    /// <summary>Mappings that were removed.</summary>
    public int Regions { get; set; }

    /// <summary>Mappings that stay.</summary>
    public int RegionsLeft { get; set; }
}
