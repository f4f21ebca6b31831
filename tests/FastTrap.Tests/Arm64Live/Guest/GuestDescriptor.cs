using System.Runtime.InteropServices;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>A descriptor of the proxy in the guest.</summary>
internal sealed class GuestDescriptor : SafeHandle
{
    private readonly GuestPlatform _platform;

    public GuestDescriptor(GuestPlatform platform, long descriptor)
        : base(-1, ownsHandle: true)
    {
        _platform = platform;
        SetHandle((nint)descriptor);
    }

    public override bool IsInvalid => handle < 0;

    protected override bool ReleaseHandle() => _platform.CloseDescriptor(handle);
}
