namespace FastTrap;

/// <summary>One look at the threads of a process (<see cref="TracedProcess.LookAtThreadsAsync"/>).</summary>
/// <param name="Running">Threads that ran; the others slept, or stood.</param>
/// <param name="InQueryCode">Those of them that executed code of queries, or the displaced instructions in it: hits by <see cref="ProbeMechanism.Jump"/>.</param>
/// <param name="ProcessorTime">The time that all threads of the process have spent on processors since it began, by the kernel's clock ticks of 10 ms.</param>
public readonly record struct ThreadLook(int Running, int InQueryCode, TimeSpan ProcessorTime);
