using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>
/// Waking a thread out of a blocking wait. The signal is a real-time signal whose action was SIG_DFL (its default would end the process,
/// so nobody depends on it), searched from the top, for the runtime and others claim from the bottom. Its handler must be native,
/// async-signal-safe and harmless: the C library's own <c>abs</c>, called with the signal's number, is. SA_RESTART is left out, so that
/// wait4 returns EINTR.
/// </summary>
/// <remarks>Concurrency: claimed once under the lock; never given back, for a late signal would end the process.</remarks>
internal sealed unsafe partial class LinuxPlatform
{
    private const int HighestSignal = 64;
    private const int LowestRealTimeSignal = 35;

    private static readonly Lock s_wakeLock = new();
    private static int s_wakeSignal;

    [ThreadStatic]
    private static bool t_admitsWakeSignal;

    public Errno WakeThread(int threadId)
    {
        int signal = ClaimWakeSignal();
        return signal == 0 ? Errno.EBUSY : SignalThread(CurrentProcessId, threadId, signal);
    }

    /// <summary>
    /// Unblocks the wake signal in the calling thread, once: a thread inherits its mask from whoever started it, and that may be
    /// anything.
    /// </summary>
    private static void AdmitWakeSignal()
    {
        if (t_admitsWakeSignal)
        {
            return;
        }

        int signal = ClaimWakeSignal();
        if (signal != 0)
        {
            SignalSet set = default;
            set[0] = Signal.Bit(signal);
            _ = LibC.pthread_sigmask(LibC.SIG_UNBLOCK, &set, null);
        }

        t_admitsWakeSignal = true;
    }

    /// <summary>The claimed signal, or 0 if every real-time signal is taken.</summary>
    private static int ClaimWakeSignal()
    {
        int claimed = Volatile.Read(ref s_wakeSignal);
        if (claimed != 0)
        {
            return claimed;
        }

        lock (s_wakeLock)
        {
            if (s_wakeSignal != 0)
            {
                return s_wakeSignal;
            }

            nint handler = NativeLibrary.GetExport(NativeLibrary.Load(LibC.Library, typeof(LibC).Assembly, null), "abs");
            for (int signal = HighestSignal - 1; signal >= LowestRealTimeSignal; signal--)
            {
                SignalAction current;
                if (LibC.sigaction(signal, null, &current) != 0 || current.sa_handler != 0)
                {
                    continue;
                }

                SignalAction action = new() { sa_handler = handler };
                if (LibC.sigaction(signal, &action, null) == 0)
                {
                    Volatile.Write(ref s_wakeSignal, signal);
                    return signal;
                }
            }

            return 0;
        }
    }
}
