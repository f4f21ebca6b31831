using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>A thread that goes to each of some CPUs, and ends.</summary>
/// <remarks>Who asks sees its results; what was written before it was made was written before it comes to the first CPU.</remarks>
internal sealed class ProcessorPass
{
    private readonly IPlatform _platform;
    private readonly int[] _processors;
    private volatile bool _isOver;
    private bool _hasBeenEverywhere;

    private ProcessorPass(IPlatform platform, int[] processors)
    {
        _platform = platform;
        _processors = processors;
    }

    public bool IsOver => _isOver;

    /// <summary>Whether it is over, and there is no CPU that it could not go to.</summary>
    public bool HasBeenEverywhere => _isOver && _hasBeenEverywhere;

    /// <summary>Begins one; null if no thread can be had (limits of the user or of a container).</summary>
    public static ProcessorPass? TryStart(IPlatform platform, int[] processors)
    {
        ProcessorPass pass = new(platform, processors);
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

    private void Run()
    {
        bool isEverywhere = _processors.Length != 0;
        foreach (int processor in _processors)
        {
            // EINVAL: it is off.
            isEverywhere &= _platform.SetAffinity(0, [processor]) is Errno.None or Errno.EINVAL;
        }

        _hasBeenEverywhere = isEverywhere;
        _isOver = true;
    }
}
