using Microsoft.Win32.SafeHandles;

namespace FastTrap.Native;

/// <summary>An open <c>/proc/PID/mem</c>, or what stands for it in another implementation of <see cref="IPlatform"/>. Any thread; dispose it once.</summary>
internal class TargetMemory(int processId, SafeFileHandle? handle) : IDisposable
{
    public int ProcessId { get; } = processId;

    public SafeFileHandle? Handle { get; } = handle;

    public void Dispose()
    {
        Handle?.Dispose();
        GC.SuppressFinalize(this);
    }
}
