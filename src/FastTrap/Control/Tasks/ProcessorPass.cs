using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>A thread that goes to each of some CPUs when it is asked: it is there already, so that who asks does not wait for it to get a CPU.</summary>
/// <remarks>One thread asks, and sees the results; what that wrote before was written before this one comes to the first CPU.</remarks>
internal sealed class ProcessorPass
{
    private readonly IPlatform _platform;
    private readonly object _asked = new();
    private int[]? _processors = [];
    private volatile bool _isOver = true;
    private bool _hasBeenEverywhere;

    private ProcessorPass(IPlatform platform)
    {
        _platform = platform;
    }

    /// <summary>Whether what was asked last is over.</summary>
    public bool IsOver => _isOver;

    /// <summary>Whether it is over, and there is no CPU that it could not go to.</summary>
    public bool HasBeenEverywhere => _isOver && _hasBeenEverywhere;

    /// <summary>Makes one; null if no thread can be had (limits of the user or of a container).</summary>
    public static ProcessorPass? TryMake(IPlatform platform)
    {
        ProcessorPass pass = new(platform);
        try
        {
            new Thread(pass.Run) { IsBackground = true, Name = "FastTrap pass" }.Start();
            return pass;
        }
        catch (OutOfMemoryException)
        {
            return null;
        }
    }

    /// <summary>Has it go. False while it is still on its way for who asked before.</summary>
    public bool TryAsk(int[] processors)
    {
        if (!_isOver)
        {
            return false;
        }

        Ask(processors);
        return true;
    }

    /// <summary>It is needed no more: the thread ends.</summary>
    public void End() => Ask(null);

    private void Ask(int[]? processors)
    {
        lock (_asked)
        {
            _processors = processors;
            _isOver = false;
            Monitor.Pulse(_asked);
        }
    }

    private int[]? Wait()
    {
        lock (_asked)
        {
            while (_isOver)
            {
                Monitor.Wait(_asked);
            }

            return _processors;
        }
    }

    private void Run()
    {
        while (Wait() is { } processors)
        {
            bool isEverywhere = processors.Length != 0;
            foreach (int processor in processors)
            {
                // EINVAL: it is off.
                isEverywhere &= _platform.SetAffinity(0, [processor]) is Errno.None or Errno.EINVAL;
            }

            _hasBeenEverywhere = isEverywhere;
            _isOver = true;
        }
    }
}
