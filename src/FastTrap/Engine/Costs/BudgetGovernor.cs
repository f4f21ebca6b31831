namespace FastTrap.Engine;

/// <summary>What is to be done about an enabling.</summary>
internal enum BudgetVerdict
{
    /// <summary>It is within its budget.</summary>
    Within,

    /// <summary>Its traps are to be taken out for <see cref="BudgetGovernor.RestTicks"/>.</summary>
    Rest,

    /// <summary>It is to be disabled.</summary>
    Disable,
}

/// <summary>
/// Watches over the share of a CPU that an enabling may cost. Over the budget of a window, it says at once what is to be done: to disable the enabling, or to let it
/// rest until what it has used is its share of the time.
/// </summary>
/// <remarks>Control thread, but for <see cref="SampledShare"/>, which any thread reads. Times are given, as in <see cref="CostMeter"/>.</remarks>
internal sealed class BudgetGovernor(double share, BudgetAction action, long frequency)
{
    private long _window;
    private long _begin;
    private long _windowStart;
    private long _used;
    private long _restStart;
    private long _rested;

    /// <summary>How long to rest, after <see cref="BudgetVerdict.Rest"/>.</summary>
    public long RestTicks { get; private set; }

    public bool IsResting => Volatile.Read(ref _restStart) != 0;

    /// <summary>
    /// Begins to watch. The windows of sampling are 0.1 s, and longer with many probes, whose traps take time to be put in and taken out.
    /// </summary>
    public void Begin(long now, int probes)
    {
        _window = action == BudgetAction.Disable ? frequency : (frequency / 10) + (probes * (frequency / 10_000));
        _windowStart = now;
        _used = 0;
        Volatile.Write(ref _begin, now);
    }

    /// <summary>A thread was stopped for the enabling; the time stands for <paramref name="weight"/> stops.</summary>
    public BudgetVerdict Charge(long start, long now, int weight = 1)
    {
        if (_begin == 0 || IsResting)
        {
            return BudgetVerdict.Within;
        }

        if (now - _windowStart >= _window)
        {
            _windowStart = start;
            _used = 0;
        }

        _used += (now - start) * weight;
        if (_used <= share * _window)
        {
            return BudgetVerdict.Within;
        }

        Volatile.Write(ref _restStart, now);
        if (action == BudgetAction.Disable)
        {
            return BudgetVerdict.Disable;
        }

        RestTicks = Math.Max(1, (long)(_used / share) - (now - _windowStart));
        return BudgetVerdict.Rest;
    }

    /// <summary>The rest is over.</summary>
    public void EndRest(long now)
    {
        Volatile.Write(ref _rested, _rested + now - _restStart);
        Volatile.Write(ref _restStart, 0);
        _windowStart = now;
        _used = 0;
    }

    /// <summary>The share of the time, from 0 to 1, in which hits were seen.</summary>
    public double SampledShare(long now)
    {
        long restStart = Volatile.Read(ref _restStart);
        long rested = Volatile.Read(ref _rested) + (restStart == 0 ? 0 : now - restStart);
        long elapsed = now - Volatile.Read(ref _begin);
        return rested == 0 || elapsed <= 0 ? 1 : Math.Clamp(1 - ((double)rested / elapsed), 0, 1);
    }
}
