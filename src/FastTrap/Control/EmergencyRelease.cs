using System.Collections.Concurrent;
using System.Runtime.InteropServices;

namespace FastTrap.Control;

/// <summary>
/// Releases all targets when the tracer ends without having disposed them: by a signal, an unhandled exception, or a return from Main.
/// </summary>
/// <remarks>
/// A trap that is left in a target kills it at its next hit. The signal's own action (the end of the process, unless the program cancels it)
/// follows; nothing is done about SIGKILL, which gives no chance. Thread-safe.
/// </remarks>
internal static class EmergencyRelease
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);
    private static readonly ConcurrentDictionary<TracedProcess, bool> s_processes = new();
    private static readonly Lazy<PosixSignalRegistration[]> s_installed = new(Register);

    private static volatile bool s_isEnding;

    /// <summary>Whether this program is about to end: nothing may be written to a target any more, for nobody would take it out again.</summary>
    public static bool IsEnding => s_isEnding;

    /// <summary>Registers once for the process.</summary>
    public static void Install() => _ = s_installed.Value;

    public static void Add(TracedProcess process) => s_processes.TryAdd(process, true);

    public static void Remove(TracedProcess process) => s_processes.TryRemove(process, out _);

    private static PosixSignalRegistration[] Register()
    {
        AppDomain.CurrentDomain.ProcessExit += static (_, _) => ReleaseAll();
        AppDomain.CurrentDomain.UnhandledException += static (_, _) => ReleaseAll();
        return
        [
            PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal),
            PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal),
            PosixSignalRegistration.Create(PosixSignal.SIGHUP, OnSignal),
            PosixSignalRegistration.Create(PosixSignal.SIGQUIT, OnSignal),
        ];
    }

    private static void OnSignal(PosixSignalContext context)
    {
        // A program that handles the signal itself (Cancel) goes on, and disposes what it traces in its own time.
        if (!context.Cancel)
        {
            ReleaseAll();
        }
    }

    private static void ReleaseAll()
    {
        // First of all: a process that is not among those asked now has no probes yet, and gets none.
        s_isEnding = true;
        Interlocked.MemoryBarrier();

        // All at once: then no sleeping thread of a process tree is disturbed.
        foreach (TracedProcess process in s_processes.Keys)
        {
            process.Handle.AnnounceRelease();
        }

        // Asked for on this thread: the pool may be blocked by what ends the program.
        Task[] releases = [.. s_processes.Keys.Select(p => p.CloseAsync().AsTask())];
        if (!Task.WaitAll(releases, s_patience))
        {
            // A handler that does not return holds up the control thread. The thread it stopped cannot be saved; all others can.
            foreach (TracedProcess process in s_processes.Keys)
            {
                process.RestoreBytes();
            }
        }
    }
}
