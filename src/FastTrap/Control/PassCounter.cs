namespace FastTrap.Control;

/// <summary>
/// How often a control thread has begun its loop anew: odd while it is at work, even while it sleeps or has ended. Whoever has taken something
/// away waits until the number is even or another one; then the thread uses nothing that it had found before.
/// </summary>
/// <remarks>One writer, the control thread; any thread reads. Source: fasttrap.c, by effect of the lock that a hit takes there.</remarks>
internal sealed class PassCounter
{
    private long _passes;

    private bool _isOver;

    public long Value => Volatile.Read(ref _passes);

    /// <summary>Whether the thread is at work now, and using what it finds.</summary>
    public static bool IsBusy(long value) => (value & 1) != 0;

    /// <summary>Whether the thread has ended.</summary>
    public bool IsOver => Volatile.Read(ref _isOver);

    /// <summary>The loop begins anew, or goes on after a sleep.</summary>
    public void Pass()
    {
        // With a fence: what is looked up from now on must be looked up after this is seen.
        long now = _passes;
        Interlocked.Exchange(ref _passes, IsBusy(now) ? now + 2 : now + 1);
    }

    /// <summary>The thread ends.</summary>
    public void End()
    {
        Rest();
        Volatile.Write(ref _isOver, true);
    }

    /// <summary>The thread is about to sleep.</summary>
    public void Rest()
    {
        if (IsBusy(_passes))
        {
            Volatile.Write(ref _passes, _passes + 1);
        }
    }
}
