namespace FastTrap.HitCost;

/// <summary>What is enabled in the target.</summary>
internal enum HitVariant
{
    /// <summary>An entry probe that counts.</summary>
    Entry,

    /// <summary>An entry probe and a return probe that count: two traps for each call.</summary>
    EntryAndReturn,

    /// <summary>An entry probe whose predicate is false.</summary>
    PredicateFalse,

    /// <summary>An entry probe with a handler which reads an argument.</summary>
    Handler,

    /// <summary>An entry probe whose hits are buffered with two arguments, and read.</summary>
    Buffered,
}

/// <summary>Where target and tracer run.</summary>
internal enum HitAffinity
{
    /// <summary>Both on CPU 0.</summary>
    Same,

    /// <summary>The target on CPU 0, the tracer on CPU 1.</summary>
    Other,

    /// <summary>Wherever the scheduler puts them.</summary>
    None,

    /// <summary>Wherever the scheduler puts the target, and the library after it (<see cref="ControlThreadAffinity.FollowTarget"/>).</summary>
    Follow,
}
