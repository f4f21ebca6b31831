namespace FastTrap;

/// <summary>What an earlier tracer, which was killed or had let go, had left in a process, and what became of it when the process was attached to.</summary>
/// <param name="OwnerProcessId">The process of that tracer; 0 if that is not known.</param>
/// <param name="IsOwnerAlive">Whether that process runs: then it had let go.</param>
/// <param name="ProbesRemoved">Places of the text that were restored.</param>
/// <param name="MappingsRemoved">Mappings that were removed.</param>
/// <param name="MappingsLeft">Mappings that stay, because a thread may come back to them from a signal handler; the next attach tries again.</param>
public sealed record ProcessLeftovers(int OwnerProcessId, bool IsOwnerAlive, int ProbesRemoved, int MappingsRemoved, int MappingsLeft);
