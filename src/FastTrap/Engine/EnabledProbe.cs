namespace FastTrap.Engine;

/// <summary>One probe in one enabling: what a hit of the probe sets off. Fired on the control thread only.</summary>
/// <remarks>Source: dtrace_impl.h, the enabling control block.</remarks>
internal sealed class EnabledProbe(ProbeEnabling enabling, Probe probe)
{
    private long _hitCount;

    public ProbeEnabling Enabling { get; } = enabling;

    public Probe Probe { get; } = probe;

    /// <summary>Whether the semaphores of its probe are raised for it.</summary>
    public bool HoldsSemaphores { get; set; }

    /// <summary>Whether it is no more in the list of its enabling.</summary>
    public bool IsWithdrawn { get; set; }

    public long HitCount => Volatile.Read(ref _hitCount);

    /// <summary>Counts a hit; one writer.</summary>
    public void CountHit() => Volatile.Write(ref _hitCount, _hitCount + 1);
}
