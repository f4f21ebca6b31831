using System.Runtime.CompilerServices;

namespace FastTrap.Control;

/// <summary>A thread of ours for what may have to wait, while the control thread handles reports. It is there already when it is asked: who asks does not wait for it to get a CPU.</summary>
/// <remarks>One thread asks. What it wrote before is there for the work, and what the work wrote is there when it is over.</remarks>
internal sealed class SideThread
{
    private readonly object _turn = new();
    private Action? _work;
    private volatile bool _isOver = true;
    private bool _isEnding;
    private bool _hasFailed;

    private SideThread()
    {
    }

    /// <summary>Whether what was asked last is over.</summary>
    public bool IsOver => _isOver;

    /// <summary>Whether it is over, and did not throw.</summary>
    public bool IsDone => _isOver && !_hasFailed;

    /// <summary>Makes one; null if no thread can be had (limits of the user or of a container).</summary>
    public static SideThread? TryMake()
    {
        SideThread side = new();
        try
        {
            new Thread(side.Run) { IsBackground = true, Name = "FastTrap side" }.Start();
            return side;
        }
        catch (OutOfMemoryException)
        {
            return null;
        }
    }

    /// <summary>Has something done there. False while something else is under way.</summary>
    public bool TryAsk(Action work)
    {
        lock (_turn)
        {
            if (!_isOver)
            {
                return false;
            }

            _work = work;
            _hasFailed = false;
            _isOver = false;
            Monitor.Pulse(_turn);
            return true;
        }
    }

    /// <summary>It is needed no more: the thread ends when its work is done.</summary>
    public void End()
    {
        lock (_turn)
        {
            _isEnding = true;
            Monitor.Pulse(_turn);
        }
    }

    private Action? Wait()
    {
        lock (_turn)
        {
            while (_work is null && !_isEnding)
            {
                Monitor.Wait(_turn);
            }

            Action? work = _work;
            _work = null;
            return work;
        }
    }

    private void Run()
    {
        while (TryRunNext())
        {
            // By itself, so that nothing of the last work is kept alive while there is none.
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TryRunNext()
    {
        if (Wait() is not { } work)
        {
            return false;
        }

        try
        {
            work();
        }
        catch (Exception)
        {
            // Who asked does it again, where it fails in the right place.
            _hasFailed = true;
        }

        _isOver = true;
        return true;
    }
}
