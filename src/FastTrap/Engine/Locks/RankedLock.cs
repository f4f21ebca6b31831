namespace FastTrap.Engine;

/// <summary>
/// A lock with a place in the order of all locks of the engine. While <see cref="IsChecked"/>, a thread that takes locks in another order
/// gets an exception, at the first time and not at the first deadlock.
/// </summary>
/// <remarks>
/// Held for moments: never over a wait, an await, a log call or code of the user. Not to be entered twice by one thread.
/// Source: fasttrap.c, its chapter on the order of locks.
/// </remarks>
internal sealed class RankedLock(LockRank rank)
{
    [ThreadStatic]
    private static uint s_held;

    private readonly Lock _lock = new();

    /// <summary>Whether the order is checked: in Debug, and where somebody asks for it.</summary>
    public static bool IsChecked { get; set; } = IsDebug;

    /// <summary>Whether the calling thread holds any ranked lock; known only while the order is checked.</summary>
    public static bool IsAnyHeld => s_held != 0;

    public LockRank Rank { get; } = rank;

    private static bool IsDebug
    {
        get
        {
#if DEBUG
            return true;
#else
            return false;
#endif
        }
    }

    private uint Bit => 1u << (int)Rank;

    /// <summary>Takes the lock until the scope is disposed.</summary>
    /// <exception cref="InvalidOperationException">The order is checked, and the thread holds a lock that must be taken after this one.</exception>
    public Scope Enter()
    {
        bool isChecked = IsChecked;
        if (isChecked)
        {
            Check();
        }

        _lock.Enter();
        if (isChecked)
        {
            s_held |= Bit;
        }

        return new Scope(this, isChecked);
    }

    private void Check()
    {
        const uint Apart = (1u << (int)LockRank.Provider) | (1u << (int)LockRank.ProviderCreation);
        uint after = ~(Bit - 1);
        if ((s_held & after) != 0)
        {
            throw new InvalidOperationException(
                $"A lock of rank {Rank} is taken while one of rank {(LockRank)int.Log2((int)s_held)} is held; take them in the order of {nameof(LockRank)}.");
        }

        if ((Bit & Apart) != 0 && (s_held & Apart) != 0)
        {
            throw new InvalidOperationException(
                "A provider's lock and a creation lock are never held together: raise one of the provider's counts, and drop the one before the other is taken.");
        }
    }

    /// <summary>Gives the lock back.</summary>
    internal readonly ref struct Scope(RankedLock owner, bool isChecked)
    {
        public void Dispose()
        {
            if (isChecked)
            {
                s_held &= ~owner.Bit;
            }

            owner._lock.Exit();
        }
    }
}
