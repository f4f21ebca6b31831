namespace FastTrap.Programs.Shared;

/// <summary>How a reader waits for records, of which nobody tells it: it looks again at once for a moment, then sleeps, longer and longer. One thread at a time.</summary>
internal sealed class ReaderPause
{
    /// <summary>Looks without sleep, each after a little longer: some microseconds together.</summary>
    private const int Spins = 8;

    private const int SpinUnit = 4;

    private readonly int _plenty;
    private readonly int _longestMs;
    private int _idle;
    private int _taken;

    /// <param name="plenty">So many records between two sleeps are a reason to look more often; fewer are not: each look costs the target's CPUs more than they do.</param>
    /// <param name="longestMs">The longest sleep: how late a record may be seen.</param>
    public ReaderPause(int plenty, int longestMs = 16)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(plenty, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(longestMs, 1);
        _plenty = plenty;
        _longestMs = longestMs;
    }

    /// <summary>There were records.</summary>
    public void Took(int records)
    {
        _taken += records;
        if (_taken >= _plenty)
        {
            _idle = _taken = 0;
        }
    }

    /// <summary>There were none: waits before the next look.</summary>
    public ValueTask WaitAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        int idle = _idle++;
        if (idle < Spins)
        {
            Thread.SpinWait(SpinUnit << idle);
            return ValueTask.CompletedTask;
        }

        _idle = Math.Min(_idle, int.MaxValue / 2);
        _taken = 0;
        return new ValueTask(Task.Delay(Math.Min(1 << Math.Min((idle - Spins) / 2, 16), _longestMs), cancellationToken));
    }
}
