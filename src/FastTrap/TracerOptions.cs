using Microsoft.Extensions.Logging;

namespace FastTrap;

/// <summary>Settings of a <see cref="Tracer"/>; all have defaults. Read once, when the tracer is made.</summary>
public sealed class TracerOptions
{
    private readonly int _maximumTracepoints = 250_000;
    private readonly int _spinMicroseconds = 50;
    private readonly TimeSpan _detachTimeout = TimeSpan.FromSeconds(10);
    private readonly int _maximumIdleViews = 8;
    private readonly TimeSpan _disposeTimeout = TimeSpan.FromSeconds(30);
    private readonly int _providerTableSize = 256;
    private readonly int _procTableSize = 256;

    /// <summary>Where the library logs attaches, detaches and refusals; nothing is logged per hit. Default: nowhere.</summary>
    public ILoggerFactory? LoggerFactory { get; init; }

    /// <summary>
    /// Most tracepoints that this tracer holds over all processes, 1 to 16,777,216. Each probe counts with all its instructions from when it is first enabled until the tracer forgets it: when its
    /// process ends, or when room is needed and nobody has it enabled. Default 250,000.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public int MaximumTracepoints
    {
        get => _maximumTracepoints;
        init
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 1);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, 1 << 24);
            _maximumTracepoints = value;
        }
    }

    /// <summary>
    /// Microseconds for which a control thread polls for the next stop before it sleeps, while hits come often; 0 to 10,000. Default 50.
    /// Polling costs CPU time of the tracer and saves the target the time to wake a sleeping CPU.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public int SpinMicroseconds
    {
        get => _spinMicroseconds;
        init
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, 10_000);
            _spinMicroseconds = value;
        }
    }

    /// <summary>
    /// On which CPUs control threads run. Default <see cref="ControlThreadAffinity.FollowTarget"/>, the faster by 10 times and more where CPUs are idle (docs/performance.md).
    /// </summary>
    public ControlThreadAffinity Affinity { get; init; } = ControlThreadAffinity.FollowTarget;

    /// <summary>Longest time for a detach to wait for threads that are in the middle of something, 100 ms to 10 minutes. Default 10 s.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public TimeSpan DetachTimeout
    {
        get => _detachTimeout;
        init
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, TimeSpan.FromMilliseconds(100));
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, TimeSpan.FromMinutes(10));
            _detachTimeout = value;
        }
    }

    /// <summary>
    /// Whether the kernel kills all targets with SIGKILL when the tracer dies without having released them (it was sent SIGKILL, or its runtime crashed). Default
    /// false: then targets live on with the traps that stand in them, and one that runs into a trap dies by SIGTRAP, at a moment nobody can foresee.
    /// </summary>
    public bool KillTargetsWithTracer { get; init; }

    /// <summary>Most read-only handles (<see cref="ProcessView"/>) which are kept for their next use, 0 to 1,024. Default 8.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public int MaximumIdleViews
    {
        get => _maximumIdleViews;
        init
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, 1024);
            _maximumIdleViews = value;
        }
    }

    /// <summary>
    /// Longest time for <see cref="Tracer.DisposeAsync"/>, 100 ms to 10 minutes. If handlers of a consumer hold up control threads for longer, the text of their processes is restored all the
    /// same, and the rest is left to those threads. Default 30 s.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public TimeSpan DisposeTimeout
    {
        get => _disposeTimeout;
        init
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, TimeSpan.FromMilliseconds(100));
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, TimeSpan.FromMinutes(10));
            _disposeTimeout = value;
        }
    }

    /// <summary>Buckets of the table of providers, 1 to 65,536, rounded up to a power of two. Default 256; more are of use beyond some thousand processes.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public int ProviderTableSize
    {
        get => _providerTableSize;
        init
        {
            RequireTableSize(value);
            _providerTableSize = value;
        }
    }

    /// <summary>Buckets of the table of processes, 1 to 65,536, rounded up to a power of two. Default 256.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Out of range.</exception>
    public int ProcTableSize
    {
        get => _procTableSize;
        init
        {
            RequireTableSize(value);
            _procTableSize = value;
        }
    }

    private static void RequireTableSize(int value)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(value, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(value, 1 << 16);
    }
}

/// <summary>Where the control thread of a process runs.</summary>
public enum ControlThreadAffinity
{
    /// <summary>Wherever the scheduler puts it.</summary>
    Inherit,

    /// <summary>
    /// On the CPU where the thread that was hit ran: a stop and its answer then need no wake-up of another CPU. It is looked up at most once in a millisecond; handlers
    /// run with that affinity, and other work of the library on all CPUs. Real-time threads, and CPUs which this process may not use, are not followed.
    /// </summary>
    FollowTarget,
}
