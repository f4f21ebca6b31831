using System.Diagnostics;

namespace FastTrap.Engine;

/// <summary>
/// Removes providers whose time is over, on a thread of its own: those that cannot be removed yet are tried again after a second.
/// </summary>
/// <remarks>
/// Scheme. The thread is started when there is something to do and ends when there is nothing: no tracer keeps a sleeping thread. <see cref="Kick"/> only sets a flag and
/// wakes it, so it may be called with locks held by nobody, from any thread. The monitor is a leaf; nothing is cleaned under it.
/// Source: fasttrap.c, fasttrap_pid_cleanup, fasttrap_pid_cleanup_cb and the draining in fasttrap_unload.
/// </remarks>
internal sealed class Cleaner(Func<TimeSpan, int> sweep, TimeSpan interval)
{
    public static readonly TimeSpan DefaultInterval = TimeSpan.FromSeconds(1);

    private readonly object _monitor = new();
    private Thread? _thread;
    private bool _hasWork;
    private bool _isDraining;

    /// <summary>Whether its thread runs: there is something to clean.</summary>
    public bool IsRunning
    {
        get
        {
            lock (_monitor)
            {
                return _thread is not null;
            }
        }
    }

    /// <summary>There may be something to clean.</summary>
    public void Kick()
    {
        lock (_monitor)
        {
            _hasWork = true;
            if (_thread is null)
            {
                _thread = new Thread(Run) { IsBackground = true, Name = "FastTrap cleaner" };
                _thread.Start();
            }
        }
    }

    /// <summary>Cleans without pauses until there is nothing left. False if something was left when the time was up; it goes on then.</summary>
    public bool Drain(TimeSpan timeout)
    {
        long start = Stopwatch.GetTimestamp();
        Kick();
        lock (_monitor)
        {
            _isDraining = true;
            Monitor.PulseAll(_monitor);
            while (_thread is not null)
            {
                TimeSpan left = timeout - Stopwatch.GetElapsedTime(start);
                if (left <= TimeSpan.Zero || !Monitor.Wait(_monitor, left))
                {
                    _isDraining = false;
                    return _thread is null;
                }
            }

            _isDraining = false;
            return true;
        }
    }

    private void Run()
    {
        while (true)
        {
            lock (_monitor)
            {
                _hasWork = false;
            }

            int later = sweep(interval);
            lock (_monitor)
            {
                if (later == 0 && !_hasWork)
                {
                    _thread = null;
                    Monitor.PulseAll(_monitor);
                    return;
                }

                if (later != 0)
                {
                    Monitor.Wait(_monitor, _isDraining ? TimeSpan.FromMilliseconds(1) : interval);
                }
            }
        }
    }
}
