namespace FastTrap.Engine;

/// <summary>One process for all time: a pid is given again, and then with another start.</summary>
/// <param name="ProcessId">The pid.</param>
/// <param name="StartTime">Clock ticks from boot to its start.</param>
internal readonly record struct ProcIdentity(int ProcessId, ulong StartTime);
