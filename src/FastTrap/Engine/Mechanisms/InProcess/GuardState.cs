namespace FastTrap.Engine.Mechanisms;

/// <summary>What the guard's code keeps in memory of the target that fork children get a copy of: what the target itself wants done with SIGTRAP.</summary>
/// <remarks>A pointer to the action that counts, among several, so that it changes by one store; and the action that is to be installed, which is the guard's own.</remarks>
internal static class GuardState
{
    /// <summary>Bytes, a page.</summary>
    public const int Length = 4096;

    /// <summary>The address of the action that counts.</summary>
    public const int CurrentOffset = 0;

    /// <summary>Not 0: a thread is stepped by the tracer with its signals blocked. Behind it its own mask.</summary>
    public const int KeptOffset = 8;

    /// <summary>Bytes of the two.</summary>
    public const int KeptLength = 16;

    /// <summary>The guard's own action.</summary>
    public const int InstalledOffset = 64;

    /// <summary>Actions of the target, <see cref="GuardAction.Length"/> bytes each.</summary>
    public const int ActionsOffset = 128;
}
