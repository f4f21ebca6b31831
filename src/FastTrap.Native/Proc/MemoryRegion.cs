namespace FastTrap.Native;

/// <summary>What a mapping allows.</summary>
[Flags]
internal enum MemoryAccess
{
    None = 0,
    Read = 1,
    Write = 2,
    Execute = 4,

    /// <summary>MAP_SHARED; private otherwise.</summary>
    Shared = 8,
}

/// <summary>One line of /proc/PID/maps.</summary>
/// <param name="Start">First address.</param>
/// <param name="End">First address behind it.</param>
/// <param name="Access">Permissions.</param>
/// <param name="FileOffset">Where in the file it starts, in bytes.</param>
/// <param name="DeviceMajor">The file's device.</param>
/// <param name="DeviceMinor">The file's device.</param>
/// <param name="Inode">The file's inode; 0 without a file.</param>
/// <param name="Path">The file's path in the target's own mount namespace, a name in brackets such as [vdso], or empty.</param>
/// <param name="IsDeleted">The file's name was unlinked or replaced.</param>
internal readonly record struct MemoryRegion(
    ulong Start,
    ulong End,
    MemoryAccess Access,
    ulong FileOffset,
    uint DeviceMajor,
    uint DeviceMinor,
    ulong Inode,
    string Path,
    bool IsDeleted)
{
    public ulong Length => End - Start;

    public bool IsExecutable => (Access & MemoryAccess.Execute) != 0;

    public bool IsReadable => (Access & MemoryAccess.Read) != 0;

    /// <summary>As in <see cref="FileIdentity.Device"/>.</summary>
    public ulong Device => DeviceNumber.Make(DeviceMajor, DeviceMinor);

    public bool Contains(ulong address) => address >= Start && address < End;
}
