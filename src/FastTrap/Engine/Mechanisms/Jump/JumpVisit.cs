using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>What a look at the threads is for. Control thread only.</summary>
internal abstract class JumpVisit(JumpMechanism mechanism) : IThreadVisit
{
    protected JumpMechanism Mechanism { get; } = mechanism;

    /// <summary>Whether a sleeping thread need not be stopped.</summary>
    public virtual bool TryPass(TracedTask task, in ProcSystemCall sleep) =>
        !Mechanism.Contains(sleep.ProgramCounter)
        && !(Mechanism.Index.FindWindow(sleep.ProgramCounter) is { State: not JumpState.Gone } site && (site.IsInside(sleep.ProgramCounter) || (site.IsBypassed && sleep.ProgramCounter == site.Start)));

    public virtual VisitOutcome Look(TracedTask task, ref RegisterSet registers) => LeavePatch(task, ref registers) ? VisitOutcome.Changed : VisitOutcome.Unchanged;

    /// <summary>A thread that stands where bytes are about to change goes to the same instruction of the trampoline.</summary>
    protected bool LeavePatch(TracedTask task, ref RegisterSet registers)
    {
        ulong pc = registers.ProgramCounter;
        JumpSite? site = Mechanism.Index.FindWindow(pc);
        ulong place;
        if (site is null && Mechanism.Index.TryFindOutOfLine(pc, out JumpSite? over) && over.Window.Island == pc)
        {
            place = over.Code!.Address;
        }
        else if (site is not { State: JumpState.Leading } || (pc != site.Start && !site.IsInside(pc)) || !site.Code!.TryFind(pc, out place))
        {
            return false;
        }

        // Behind a trap, perhaps another site's: it does not stand there, but is led from the trap.
        if (Mechanism.IsBehindTrap(task, in registers))
        {
            return false;
        }

        registers.ProgramCounter = place;
        return true;
    }
}

/// <summary>Between two steps: every thread passes through the kernel, and nobody is where bytes change.</summary>
internal sealed class PassVisit(JumpMechanism mechanism) : JumpVisit(mechanism);

/// <summary>After the traps were written: finds the sites whose middle a thread may come back to.</summary>
internal sealed class ArmingVisit(JumpMechanism mechanism, StackScan stacks, ReadOnlyMemory<JumpSite> sites) : JumpVisit(mechanism)
{
    private readonly ulong _lowest = sites.Span[0].Start;
    private readonly ulong _highest = sites.Span[^1].PatchEnd;

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
        Scan(task, registers.StackPointer);
        return base.Look(task, ref registers);
    }

    private void Scan(TracedTask task, ulong stackPointer) => stacks.Scan(task.ThreadId, stackPointer, _lowest, _highest, word =>
    {
        if (Mechanism.Index.FindWindow(word) is { State: JumpState.Leading } site && site.IsInside(word))
        {
            site.Demotion ??= "a thread may come back into the middle of its window from a signal handler";
        }
    });
}

/// <summary>After windows lead to other trampolines: nobody stays in the former ones, nor in an island that is about to change.</summary>
internal sealed class RenewingVisit(JumpMechanism mechanism) : LeavingVisit(mechanism)
{
    public override VisitOutcome Look(TracedTask task, ref RegisterSet registers)
    {
        VisitOutcome outcome = base.Look(task, ref registers);
        return outcome == VisitOutcome.Unchanged && LeavePatch(task, ref registers) ? VisitOutcome.Changed : outcome;
    }
}

/// <summary>After the original is back: nobody stays in a trampoline that is to be freed.</summary>
internal class LeavingVisit(JumpMechanism mechanism) : JumpVisit(mechanism)
{
    public override VisitOutcome Look(TracedTask task, ref RegisterSet registers)
    {
        ulong pc = registers.ProgramCounter;
        if (Mechanism.Index.TryFindOutOfLine(pc, out JumpSite? site) && site.State is JumpState.Leaving or JumpState.Gone or JumpState.Superseded)
        {
            if (site.State == JumpState.Superseded && task.StandingSignal != 0)
            {
                // In front of a fault of its own: it is led out when the original is back.
                return VisitOutcome.Unchanged;
            }

            if (Mechanism.IsToStepOut(pc))
            {
                return VisitOutcome.StepOut;
            }

            if (pc == site.Window.Island && Mechanism.IsBehindTrap(task, in registers))
            {
                // Behind the trap in front of the island.
                return VisitOutcome.Unchanged;
            }

            Mechanism.Leave(ref registers);
            return VisitOutcome.Changed;
        }

        if (!Mechanism.IsHeld(task) && Mechanism.Index.FindStart(pc) is { State: JumpState.Leaving, IsCountedInFront: true } passed
            && !Mechanism.IsBehindTrap(task, in registers))
        {
            // It passed the tracepoint before there was a trap, and is counted now.
            registers.ProgramCounter = passed.Tracepoint.Address;
            return VisitOutcome.Changed;
        }

        return VisitOutcome.Unchanged;
    }
}
