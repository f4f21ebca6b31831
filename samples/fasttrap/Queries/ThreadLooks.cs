using System.Diagnostics;

namespace FastTrap.Tool.Queries;

/// <summary>
/// Measures what hits by code in the target cost: a look at its threads, ten times in a second, tells which share of its processor time it spends in that code. Used by one task after the other.
/// </summary>
internal sealed class ThreadLooks
{
    private const int FewestLooks = 20;

    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(100);

    private readonly Dictionary<TracedProcess, (long Running, long InCode, TimeSpan First, TimeSpan Last)> _looks = [];
    private long _firstHits = -1;
    private long _lastHits;

    /// <summary>Nanoseconds of a hit, and threads that were seen running; null if the looks, or the hits, were too few to say.</summary>
    public (double Ns, bool IsBound, long Looks)? Result
    {
        get
        {
            long running = Running;
            long inCode = _looks.Values.Sum(look => look.InCode);
            long hits = _lastHits - _firstHits;
            if (running < FewestLooks || hits <= 0)
            {
                return null;
            }

            // Of none in so many, the share is less than 3 in so many with a probability of 95 %.
            double ns = _looks.Values.Where(look => look.Running != 0)
                .Sum(look => (look.Last - look.First).TotalNanoseconds * (inCode == 0 ? 3.0 / running : (double)look.InCode / look.Running));
            return ns > 0 ? (ns / hits, inCode == 0, running) : null;
        }
    }

    /// <summary>Threads that were seen running, over all looks.</summary>
    public long Running => _looks.Values.Sum(look => look.Running);

    /// <summary>Looks until it is cancelled.</summary>
    /// <param name="processes">The processes as they are now.</param>
    /// <param name="hits">Hits by code so far.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public async Task RunAsync(Func<IReadOnlyList<TracedProcess>> processes, Func<long> hits, CancellationToken cancellationToken)
    {
        TimeSpan pause = s_interval;
        try
        {
            while (true)
            {
                await Task.Delay(pause, cancellationToken).ConfigureAwait(false);
                long start = Stopwatch.GetTimestamp();
                long now = hits();
                foreach (TracedProcess process in processes())
                {
                    await LookAsync(process).ConfigureAwait(false);
                }

                _firstHits = _firstHits < 0 ? now : _firstHits;
                _lastHits = now;

                // With many probes, and many threads, a look takes its time.
                pause = TimeSpan.FromTicks(Math.Max(s_interval.Ticks, Stopwatch.GetElapsedTime(start).Ticks * 4));
            }
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            return;
        }
    }

    private async Task LookAsync(TracedProcess process)
    {
        try
        {
            ThreadLook look = await process.LookAtThreadsAsync().ConfigureAwait(false);
            (long running, long inCode, TimeSpan first, _) = _looks.GetValueOrDefault(process, (0, 0, look.ProcessorTime, default));
            _looks[process] = (running + look.Running, inCode + look.InQueryCode, first, look.ProcessorTime);
        }
        catch (FastTrapException)
        {
            // It ends just now, or a thread does not answer: one look less.
            return;
        }
    }
}
