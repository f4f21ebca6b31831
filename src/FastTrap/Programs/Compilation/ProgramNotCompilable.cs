namespace FastTrap.Programs.Compilation;

/// <summary>Why a program cannot become code for a target; its probes can still be served by breakpoints.</summary>
internal enum ProgramNotCompilable : byte
{
    /// <summary>It can.</summary>
    None,

    /// <summary>The remainder of doubles, for which processors have no instruction.</summary>
    DoubleRemainder,

    /// <summary>It reads memory, for which the target would have to make system calls, and they are filtered there.</summary>
    SystemCallsFiltered,

    /// <summary>It computes with the time, and ticks cannot be converted.</summary>
    NoTickScale,

    /// <summary>It has more intermediate values than a probe may put on a thread's stack.</summary>
    TooLarge,

    /// <summary>An argument is somewhere that generated code cannot read, such as a segment without an instruction that reads its base.</summary>
    UnreachableArgument,

    /// <summary>It reads so much at once that a thread which is in the way could not be stepped out of it.</summary>
    TooManySteps,

    /// <summary>Its records do not fit the ring.</summary>
    RecordTooLong,
}
