using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Engine;

/// <summary>Counts the running threads, and those that execute code of queries. Control thread only.</summary>
internal sealed class CodeVisit(Proc proc) : IThreadVisit
{
    public int Running { get; private set; }

    public int InCode { get; private set; }

    public bool TryPass(TracedTask task, in ProcSystemCall sleep) => true;

    public VisitOutcome Look(TracedTask task, ref RegisterSet registers)
    {
        if (task.WasInterrupted)
        {
            Running++;
            InCode += proc.Jump.Contains(registers.ProgramCounter) ? 1 : 0;
        }

        return VisitOutcome.Unchanged;
    }
}
