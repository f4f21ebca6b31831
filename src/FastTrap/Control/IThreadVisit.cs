using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>What is done with a thread that was looked at.</summary>
internal enum VisitOutcome
{
    /// <summary>It goes on as it is.</summary>
    Unchanged,

    /// <summary>Its registers were changed.</summary>
    Changed,

    /// <summary>It is to be stepped out of line.</summary>
    StepOut,
}

/// <summary>A look at every thread of a process (<see cref="ControlThread.Visit"/>). Control thread only.</summary>
internal interface IThreadVisit
{
    /// <summary>A thread sleeps in the kernel, and is not disturbed. False if it has to be.</summary>
    bool TryPass(TracedTask task, in ProcSystemCall sleep);

    /// <summary>A thread is stopped.</summary>
    VisitOutcome Look(TracedTask task, ref RegisterSet registers);
}
