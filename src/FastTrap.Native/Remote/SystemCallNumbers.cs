using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>System call numbers of one architecture (<c>asm/unistd_64.h</c>, <c>asm-generic/unistd.h</c>), as data.</summary>
internal sealed class SystemCallNumbers
{
    private static readonly SystemCallNumbers s_x64 = new()
    {
        Read = 0,
        Mmap = 9,
        Mprotect = 10,
        Munmap = 11,
        RtSigAction = 13,
        GetPid = 39,
        GetTid = 186,
        GetDents64 = 217,
        TgKill = 234,
        RtTgSigQueueInfo = 297,
        Kcmp = 312,
        SchedSetAttr = 314,
        SchedGetAttr = 315,
        StatX = 332,
        PidFdOpen = 434,
        OpenAt = 257,
        Open = 2,
        Close = 3,
        MAdvise = 28,
        MemFdCreate = 319,
    };

    private static readonly SystemCallNumbers s_arm64 = new()
    {
        Read = 63,
        Mmap = 222,
        Mprotect = 226,
        Munmap = 215,
        RtSigAction = 134,
        GetPid = 172,
        GetTid = 178,
        GetDents64 = 61,
        TgKill = 131,
        RtTgSigQueueInfo = 240,
        Kcmp = 272,
        SchedSetAttr = 274,
        SchedGetAttr = 275,
        StatX = 291,
        PidFdOpen = 434,
        OpenAt = 56,
        Open = -1,
        Close = 57,
        MAdvise = 233,
        MemFdCreate = 279,
    };

    public required int Read { get; init; }

    public required int Mmap { get; init; }

    public required int Mprotect { get; init; }

    public required int Munmap { get; init; }

    public required int RtSigAction { get; init; }

    public required int GetPid { get; init; }

    public required int GetTid { get; init; }

    public required int GetDents64 { get; init; }

    public required int TgKill { get; init; }

    public required int RtTgSigQueueInfo { get; init; }

    public required int Kcmp { get; init; }

    public required int SchedSetAttr { get; init; }

    public required int SchedGetAttr { get; init; }

    public required int StatX { get; init; }

    public required int PidFdOpen { get; init; }

    public required int OpenAt { get; init; }

    /// <summary>open(2), or -1 where there is openat only.</summary>
    public required int Open { get; init; }

    public required int Close { get; init; }

    public required int MAdvise { get; init; }

    public required int MemFdCreate { get; init; }

    /// <summary>The numbers of an architecture.</summary>
    /// <exception cref="PlatformNotSupportedException">It is neither x86-64 nor arm64.</exception>
    public static SystemCallNumbers Of(Architecture architecture) => architecture switch
    {
        Architecture.X64 => s_x64,
        Architecture.Arm64 => s_arm64,
        _ => throw new PlatformNotSupportedException($"FastTrap works on x86-64 and arm64, not on {architecture}."),
    };
}
