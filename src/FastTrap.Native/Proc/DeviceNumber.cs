namespace FastTrap.Native;

/// <summary>dev_t from its halves, so that devices from statx and from /proc/PID/maps compare equal.</summary>
internal static class DeviceNumber
{
    public static ulong Make(uint major, uint minor) => ((ulong)major << 32) | minor;
}
