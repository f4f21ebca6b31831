using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>An open <c>/proc/PID/mem</c>, or what stands for it in another implementation of <see cref="IPlatform"/>. Any thread; dispose it once.</summary>
internal sealed class TargetMemory(int processId, SafeHandle? handle) : IDisposable
{
    public int ProcessId { get; } = processId;

    public SafeHandle? Handle { get; } = handle;

    public void Dispose()
    {
        Handle?.Dispose();
        GC.SuppressFinalize(this);
    }
}
