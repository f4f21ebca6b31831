namespace FastTrap.Programs.Shared;

/// <summary>How a reader waits for records, of which nobody tells it: it looks again at once for a moment, then sleeps, longer and longer. One thread at a time.</summary>
internal sealed class ReaderPause
{
    /// <summary>Looks without sleep, each after a little longer: some microseconds together.</summary>
    private const int Spins = 8;

    private const int SpinUnit = 4;

    private readonly int _longestMs;
    private int _idle;

    /// <param name="longestMs">The longest sleep: how late the first record after a quiet time may be seen.</param>
    public ReaderPause(int longestMs = 16)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(longestMs, 1);
        _longestMs = longestMs;
    }

    /// <summary>There were records.</summary>
    public void Reset() => _idle = 0;

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
        return new ValueTask(Task.Delay(Math.Min(1 << Math.Min((idle - Spins) / 2, 16), _longestMs), cancellationToken));
    }
}
