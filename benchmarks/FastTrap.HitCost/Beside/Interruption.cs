using System.Runtime.InteropServices;

namespace FastTrap.HitCost;

/// <summary>SIGINT, SIGTERM and SIGHUP as a cancellation, so that whoever started servers, sessions and events ends them on the way out.</summary>
internal sealed class Interruption : IDisposable
{
    /// <summary>As a shell has it.</summary>
    public const int ExitCode = 130;

    private readonly CancellationTokenSource _source = new();
    private readonly PosixSignalRegistration[] _registrations;

    public Interruption() => _registrations =
        [.. new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP }.Select(signal => PosixSignalRegistration.Create(signal, OnSignal))];

    /// <exception cref="OperationCanceledException">There was one.</exception>
    public void Check() => _source.Token.ThrowIfCancellationRequested();

    public void Dispose()
    {
        Array.ForEach(_registrations, registration => registration.Dispose());
        _source.Dispose();
    }

    private void OnSignal(PosixSignalContext context)
    {
        context.Cancel = true;
        _source.Cancel();
    }
}
