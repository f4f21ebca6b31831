using System.Diagnostics;

namespace FastTrap.Native;

/// <summary>
/// Starts a program by posix_spawn so that it is traced from its first instruction, without PTRACE_TRACEME (which needs code of ours in
/// the child) and without a shell. posix_spawn runs on a thread of its own and its child falls asleep in <see cref="SpawnGate"/>;
/// meanwhile the calling thread, which is to be the tracer, finds the child, seizes it, opens the gate and waits for the exec stop.
/// </summary>
/// <remarks>
/// Concurrency: the spawner thread only makes the one blocking call and stores its result, which is read after joining it. It holds no
/// lock. An EINTR caused by <see cref="IPlatform.WakeThread"/> while the calling thread waits here is dropped: those who wake repeat
/// until they are answered.
/// </remarks>
internal sealed class SeizedSpawn
{
    private const int SpawnerStackLength = 256 * 1024;
    private const Errno ETIMEDOUT = (Errno)110;
    private const int SpinsBeforeSleep = 100;

    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    private readonly IPlatform _platform;
    private readonly SpawnGate _gate;
    private readonly SpawnArguments _arguments;
    private readonly Thread _spawner;
    private int _spawnerThreadId;
    private volatile bool _hasReturned;
    private Errno _spawnError;
    private int _spawnedId;

    private SeizedSpawn(IPlatform platform, SpawnGate gate, SpawnArguments arguments)
    {
        _platform = platform;
        _gate = gate;
        _arguments = arguments;
        _spawner = new Thread(SpawnOnThread, SpawnerStackLength) { IsBackground = true, Name = "FastTrap spawn" };
    }

    public static Errno Run(IPlatform platform, SpawnRequest request, PtraceOptions options, out int processId)
    {
        processId = 0;
        Errno error = SpawnGate.Create(out SpawnGate? gate);
        if (gate is null)
        {
            return error;
        }

        using (gate)
        {
            error = SpawnArguments.Create(request, gate, out SpawnArguments? arguments);
            if (arguments is null)
            {
                return error;
            }

            using (arguments)
            {
                return new SeizedSpawn(platform, gate, arguments).Run(options | PtraceOptions.TraceExec, out processId);
            }
        }
    }

    private Errno Run(PtraceOptions options, out int processId)
    {
        processId = 0;
        _spawner.Start();
        Errno error;
        try
        {
            error = FindAndSeize(options, ref processId);
        }
        catch
        {
            // The child and the spawner use what the callers are about to free.
            _ = _gate.Abort();
            _spawner.Join();
            throw;
        }

        if (error == Errno.None)
        {
            error = _gate.Open();
            if (error == Errno.None)
            {
                return WaitForExec(ref processId);
            }

            // Seized, but the gate does not open: end it, and reap it as its tracer.
            _ = _platform.Kill(processId, Signal.SIGKILL);
            _ = WaitForExec(ref processId);
            return error;
        }

        Errno abortError = _hasReturned ? Errno.None : _gate.Abort();
        if (abortError != Errno.None && processId != 0)
        {
            // The child must not reach its exec. Without the gate only its death brings the spawner back.
            _ = _platform.Kill(processId, Signal.SIGKILL);
        }

        processId = 0;
        _spawner.Join();
        if (_spawnError == Errno.None && _spawnedId > 0)
        {
            // Killed at the gate by somebody else: posix_spawn counts that as success, and the zombie is ours.
            Reap(_spawnedId);
        }

        return error;
    }

    private void SpawnOnThread()
    {
        Volatile.Write(ref _spawnerThreadId, _platform.CurrentThreadId);
        _spawnError = _arguments.Spawn(out _spawnedId);
        _hasReturned = true;
    }

    /// <summary>On success the child is seized; after a failure to seize, <paramref name="processId"/> names it too.</summary>
    private Errno FindAndSeize(PtraceOptions options, ref int processId)
    {
        SpawnedChild? child = null;
        SpinWait spin = default;
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            if (_hasReturned)
            {
                return _spawnError != Errno.None ? _spawnError : Errno.ESRCH;
            }

            int spawnerThreadId = Volatile.Read(ref _spawnerThreadId);
            if (spawnerThreadId != 0)
            {
                child ??= new SpawnedChild(_platform, _gate, spawnerThreadId);
                if (child.TryFind(out processId))
                {
                    return _platform.Seize(processId, options);
                }
            }

            if (Stopwatch.GetElapsedTime(start) > s_patience)
            {
                return ETIMEDOUT;
            }

            spin.SpinOnce(SpinsBeforeSleep);
        }
    }

    private Errno WaitForExec(ref int processId)
    {
        while (true)
        {
            int waited = _platform.Wait(processId, block: true, out WaitStatus status);
            if (waited == -(int)Errno.EINTR)
            {
                continue;
            }

            if (waited < 0 || !status.Stopped)
            {
                // The exec failed (posix_spawn knows why), or the child was killed on its way.
                _spawner.Join();
                processId = 0;
                return _spawnError != Errno.None ? _spawnError : Errno.ESRCH;
            }

            if (status.Event == PtraceEvent.Exec)
            {
                // The kernel has let the spawner go on before it reported the stop.
                _spawner.Join();
                return Errno.None;
            }

            // ESRCH here is a death, which the next wait reports.
            _ = _platform.Continue(processId, status.Event == PtraceEvent.None ? status.StopSignal : 0);
        }
    }

    private static unsafe void Reap(int processId)
    {
        int status;
        while (LibC.wait4(processId, &status, 0, null) < 0 && LibC.LastError == Errno.EINTR)
        {
        }
    }
}
