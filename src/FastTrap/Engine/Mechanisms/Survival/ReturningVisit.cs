using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>
/// Looks for threads whose stack pointer is in memory that another tracer has left: they were to make a system call for that tracer, which was killed, and come back from it by a signal frame. Until then where they really are stands there, and the call, of a plan
/// that is no more, may still be to come. Control thread only.
/// </summary>
/// <param name="adopted">That memory.</param>
internal sealed class ReturningVisit(AdoptedMemory adopted) : IThreadVisit
{
    /// <summary>Whether there is one.</summary>
    public bool HasFound { get; private set; }

    public bool TryPass(TracedTask task, in ProcSystemCall sleep)
    {
        HasFound |= adopted.IsMapped(sleep.StackPointer);
        return true;
    }

    public VisitOutcome Look(TracedTask task, ref RegisterSet registers)
    {
        HasFound |= adopted.IsMapped(registers.StackPointer);
        return VisitOutcome.Unchanged;
    }
}
