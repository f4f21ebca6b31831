using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>
/// Looks for threads that a killed tracer had make a system call, and that have not come back from it yet: until then nobody knows where they really are, and the call itself, of a plan that is no more, is still to come. Control thread only.
/// </summary>
/// <param name="platform">The kernel.</param>
internal sealed class ReturningVisit(IPlatform platform) : IThreadVisit
{
    /// <summary>Whether there is one.</summary>
    public bool HasFound { get; private set; }

    public bool TryPass(TracedTask task, in ProcSystemCall sleep)
    {
        HasFound |= EscapeRoute.IsOnTheWay(platform, task.ThreadId, sleep.ProgramCounter, sleep.StackPointer);
        return true;
    }

    public VisitOutcome Look(TracedTask task, ref RegisterSet registers)
    {
        HasFound |= EscapeRoute.IsOnTheWay(platform, task.ThreadId, registers.ProgramCounter, registers.StackPointer);
        return VisitOutcome.Unchanged;
    }
}
