using System.Diagnostics;
using FastTrap.Control;

namespace FastTrap.Engine;

/// <summary>
/// Waits until no control thread can be using any more what was taken out of a shared table. What is changed is tagged with the generation of its
/// change; a barrier that was passed since then serves for it, too.
/// </summary>
/// <remarks>
/// Scheme. Each control thread counts the passes of its loop in a <see cref="PassCounter"/>; a hit is handled within one pass. A wait remembers all counts and
/// looks until each is another one, or says that the thread sleeps. Hits pay one write for each pass. The list of counters has a leaf lock; nothing is
/// held while it waits. Not to be waited for on a control thread, which would wait for itself.
/// Source: fasttrap.c, fasttrap_mod_barrier and fasttrap_mod_gen.
/// </remarks>
internal sealed class GenerationBarrier
{
    private readonly RankedLock _lock = new(LockRank.Leaf);
    private readonly List<PassCounter> _threads = [];
    private long _generation = 1;
    private long _passed;

    /// <summary>The generation that a change made now belongs to.</summary>
    public long Generation => Volatile.Read(ref _generation);

    public void Add(PassCounter thread)
    {
        using (_lock.Enter())
        {
            _threads.RemoveAll(t => t.IsOver);
            _threads.Add(thread);
        }
    }

    /// <summary>Whether a wait for something changed in <paramref name="generation"/> would return at once.</summary>
    public bool IsPassed(long generation) => generation <= Volatile.Read(ref _passed);

    /// <summary>Waits until every control thread has begun a pass since the change. False if one had not when the time was up.</summary>
    public bool Wait(long generation, TimeSpan timeout)
    {
        if (IsPassed(generation))
        {
            return true;
        }

        // What was changed, and tagged, before this is what the wait serves for.
        long served = Interlocked.Increment(ref _generation) - 1;
        PassCounter[] threads;
        using (_lock.Enter())
        {
            threads = [.. _threads];
        }

        long[] seen = Array.ConvertAll(threads, t => t.Value);
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < threads.Length; i++)
        {
            SpinWait spin = default;
            while (PassCounter.IsBusy(seen[i]) && threads[i].Value == seen[i])
            {
                if (Stopwatch.GetElapsedTime(start) > timeout)
                {
                    return false;
                }

                spin.SpinOnce();
            }
        }

        long passed = Volatile.Read(ref _passed);
        while (passed < served && Interlocked.CompareExchange(ref _passed, served, passed) is var found && found != passed)
        {
            passed = found;
        }

        return true;
    }
}
