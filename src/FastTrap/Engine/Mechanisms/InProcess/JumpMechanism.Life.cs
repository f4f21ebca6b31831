using System.Diagnostics;
using FastTrap.Control;
using FastTrap.Isa;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>A process that is to run with its sites and without a tracer: what must be there, and the way back. Control thread only.</summary>
internal sealed partial class JumpMechanism
{
    /// <summary>So long threads in handlers that will return through a cover are waited for at a detach.</summary>
    private static readonly TimeSpan s_endTimeout = TimeSpan.FromSeconds(1);

    private static readonly TimeSpan s_endPause = TimeSpan.FromMilliseconds(5);

    private SignalCover? _cover;
    private bool _isLeft;

    /// <summary>Handlers of signals that see original addresses while nobody traces.</summary>
    private SignalCover Cover => _cover ??= new SignalCover(_proc.Process);

    /// <summary>Prepares for the time without a tracer. False, with the reason, if something that stands in the text needs one.</summary>
    public bool TryStay(out string reason)
    {
        reason = _released.Count != 0 ? "some jumps could not be taken out in time; try again" : _index.Count == 0 ? "" : PrepareForLife() ?? "";
        return reason.Length == 0;
    }

    /// <summary>
    /// To be called before the tracer lets go, when all sites are as they will stay: from here on the guard and a cover do what the tracer did. Returns null, or why it cannot be; then nothing has changed.
    /// </summary>
    public string? PrepareForLife()
    {
        if (!Guard.CanOutlive(out string reason))
        {
            return reason;
        }

        if (_index.Superseded.Length != 0)
        {
            return "a thread may still be in the former trampoline of a probe";
        }

        if (Guard.Renew() is { } problem)
        {
            return problem;
        }

        List<CoveredCode> codes = [];
        foreach (JumpSite site in _index.Sites)
        {
            if (site.State is not (JumpState.Leading or JumpState.Armed))
            {
                return $"the probe at 0x{site.Start:x} is being changed";
            }

            if (ShapeOf(site, out ulong start) is not { } shape)
            {
                return $"the program of the probe at 0x{site.Window.Site:x} does not show where its stack is";
            }

            codes.Add(Describe(site, start, shape));
            if (site.Window.Island != 0)
            {
                codes.Add(new CoveredCode(site.Window.Island, 1, [new CoveredEntry(0, 1, site.Start, null, 0)]));
            }
        }

        return Cover.Install(codes);
    }

    /// <summary>
    /// The way back, with a tracer. False if the handlers could not be given back, or a thread is in one that is to return through the cover to a trampoline: then no trampoline may be freed, nothing unmapped, and it is tried again.
    /// </summary>
    public bool TryEndLife()
    {
        if (_cover is not { } cover)
        {
            return true;
        }

        if (cover.Undo() != Errno.None)
        {
            return false;
        }

        CoverVisit visit = new(this, _stacks, cover.Range);
        return _proc.Process.Thread.Visit(_proc.Process, visit) && !visit.HasFound;
    }

    /// <summary>At a detach: as <see cref="TryEndLife"/>, for some time; what a thread may return to then stays mapped.</summary>
    public void EndLife()
    {
        long start = Stopwatch.GetTimestamp();
        while ((_isLeft = !TryEndLife()) && !_proc.IsGone && Stopwatch.GetElapsedTime(start) < s_endTimeout)
        {
            _proc.Process.Thread.HandleReports(s_endPause);
        }
    }

    /// <summary>All instructions of a trampoline, and its program, with what they stand for.</summary>
    private static CoveredCode Describe(JumpSite site, ulong bodyStart, BodyShape shape)
    {
        Trampoline code = site.Code!;
        List<CoveredEntry> entries = [];
        int first = (int)(bodyStart - code.Address);
        int behind = (int)(code.BehindBody - code.Address);
        for (int offset = 0; offset < code.Length; offset = offset == first && behind > first ? behind : offset + 1)
        {
            if (offset == first && behind > first)
            {
                ushort[] deltas = new ushort[behind - first];
                for (int i = 0; i < deltas.Length; i++)
                {
                    deltas[i] = shape.DeltaAt(i) is >= 0 and < SignalCoverCode.NoInstruction and int delta ? (ushort)delta : SignalCoverCode.NoInstruction;
                }

                entries.Add(new CoveredEntry(first, deltas.Length, site.Window.Site, deltas, 0));
            }
            else if (code.TryFindOriginal(code.Address + (ulong)offset, out RelocatedPoint point))
            {
                entries.Add(new CoveredEntry(offset, 1, point.Original, null, point.Pushed));
            }
        }

        return new CoveredCode(code.Address, code.Length, entries);
    }

    /// <summary>Looks for threads that will return to a cover.</summary>
    private sealed class CoverVisit(JumpMechanism mechanism, StackScan stacks, (ulong Start, ulong End) range) : JumpVisit(mechanism)
    {
        public bool HasFound { get; private set; }

        public override bool TryPass(TracedTask task, in ProcSystemCall sleep)
        {
            if (!base.TryPass(task, sleep))
            {
                return false;
            }

            Scan(task, sleep.StackPointer);
            return true;
        }

        public override VisitOutcome Look(TracedTask task, ref RegisterSet registers)
        {
            HasFound |= registers.ProgramCounter >= range.Start && registers.ProgramCounter < range.End;
            Scan(task, registers.StackPointer);
            return base.Look(task, ref registers);
        }

        private void Scan(TracedTask task, ulong stackPointer) => stacks.Scan(task.ThreadId, stackPointer, range.Start, range.End, _ => HasFound = true);
    }
}
