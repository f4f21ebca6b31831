using System.Runtime.InteropServices;

namespace FastTrap.Tool.Running;

/// <summary>
/// Becomes true by Ctrl-C, SIGTERM, SIGHUP, the end of the duration, or the end of all processes; signals are held back from ending us at once.
/// </summary>
internal sealed class StopRequest : IDisposable
{
    private readonly CancellationTokenSource _stop = new();
    private readonly CancellationTokenSource _leave = new();
    private PosixSignalRegistration[] _registrations;

    public StopRequest() => _registrations = Register();

    /// <summary>Cancelled when it is time to remove the probes and print.</summary>
    public CancellationToken Token => _stop.Token;

    /// <summary>Cancelled when a command is not to be waited for any longer: SIGTERM, SIGHUP, or the second Ctrl-C.</summary>
    public CancellationToken LeaveToken => _leave.Token;

    /// <summary>The number of the signal which made us leave, or 0.</summary>
    public int Signal { get; private set; }

    public void Request() => _stop.Cancel();

    /// <summary>Begins to count the time from now.</summary>
    public void RequestAfter(TimeSpan duration) => _stop.CancelAfter(duration);

    /// <summary>
    /// Registers anew, once processes are attached: the last to register is asked first, and the library, which detaches at once from a tracer that
    /// is about to end, must see that we are not.
    /// </summary>
    public void Renew()
    {
        PosixSignalRegistration[] old = _registrations;
        _registrations = Register();
        Unregister(old);
    }

    public void Dispose()
    {
        Unregister(_registrations);
        _stop.Dispose();
        _leave.Dispose();
    }

    private static void Unregister(PosixSignalRegistration[] registrations)
    {
        foreach (PosixSignalRegistration registration in registrations)
        {
            registration.Dispose();
        }
    }

    private PosixSignalRegistration[] Register() =>
    [
        PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal),
        PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal),
        PosixSignalRegistration.Create(PosixSignal.SIGHUP, OnSignal),
    ];

    private void OnSignal(PosixSignalContext context)
    {
        context.Cancel = true;
        Signal = context.Signal switch { PosixSignal.SIGINT => 2, PosixSignal.SIGTERM => 15, _ => 1 };
        if (context.Signal != PosixSignal.SIGINT || _stop.IsCancellationRequested)
        {
            _leave.Cancel();
        }

        _stop.Cancel();
    }
}
