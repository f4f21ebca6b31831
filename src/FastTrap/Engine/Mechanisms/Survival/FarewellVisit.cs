using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Leads threads out of memory that is to go, and looks for signal frames that would bring one back. Control thread only.</summary>
/// <param name="mechanism">Which has taken the memory over.</param>
/// <param name="stacks">Looks at stacks.</param>
/// <param name="covers">Handlers of signals in that memory, which call the target's own.</param>
internal sealed class FarewellVisit(JumpMechanism mechanism, StackScan stacks, IReadOnlyList<(ulong Start, ulong Length)> covers) : IThreadVisit
{
    /// <summary>Whether a thread is still, or again, to be waited for.</summary>
    public bool IsAwaited { get; private set; }

    public bool TryPass(TracedTask task, in ProcSystemCall sleep)
    {
        if (mechanism.Contains(sleep.ProgramCounter))
        {
            return false;
        }

        IsAwaited |= mechanism.Adopted.IsMapped(sleep.StackPointer);
        Scan(task, sleep.StackPointer);
        return true;
    }

    public VisitOutcome Look(TracedTask task, ref RegisterSet registers)
    {
        IsAwaited |= mechanism.Adopted.IsMapped(registers.StackPointer);
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
        if (mechanism.Adopted.IsEmpty)
        {
            return;
        }

        foreach ((ulong start, ulong length) in covers)
        {
            // A handler that was called from there comes back to it.
            stacks.Scan(task.ThreadId, stackPointer, start, start + length - 1, _ => IsAwaited = true);
        }

        stacks.ScanFrames(task.ThreadId, stackPointer, pc => IsAwaited |= mechanism.Adopted.Contains(pc));
    }
}
