using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>Maps and unmaps memory in a target, by system calls which one of its stopped threads makes.</summary>
internal static class RemoteMemoryMap
{
    /// <summary>What a 32-bit displacement reaches, less what instructions and mappings themselves take.</summary>
    public const ulong NearReach = 0x8000_0000 - (64 * 1024 * 1024);

    public const int PROT_READ = 1;
    public const int PROT_WRITE = 2;
    public const int PROT_EXEC = 4;
    public const int MAP_SHARED = 0x01;
    public const int MAP_PRIVATE = 0x02;
    public const int MAP_FIXED = 0x10;
    public const int MAP_ANONYMOUS = 0x20;
    public const int MAP_FIXED_NOREPLACE = 0x100000;

    private const int MaximalAttempts = 32;

    /// <summary>
    /// Maps <paramref name="length"/> bytes (a multiple of the page size), private and anonymous, if nothing else is asked for readable and executable, so that the
    /// whole mapping lies within <paramref name="reach"/> bytes of <paramref name="near"/>. ENOMEM when there is no room; otherwise what the kernel said to the last attempt.
    /// </summary>
    public static Errno Map(
        IPlatform platform,
        in RemoteThread thread,
        ulong near,
        ulong reach,
        ulong length,
        List<SignalInfo> held,
        out ulong address,
        out WaitStatus lastStatus,
        int access = PROT_READ | PROT_EXEC)
    {
        address = 0;
        lastStatus = default;
        if (!ProcMaps.TryRead(platform, thread.ProcessId, out List<MemoryRegion> regions, out Errno error))
        {
            return error;
        }

        SystemCallNumbers numbers = SystemCallNumbers.Of(thread.Architecture);
        ulong highest = thread.Architecture == Architecture.Arm64 ? AddressGaps.HighestOfArm64 : AddressGaps.HighestOfX64;
        int attempts = 0;
        error = Errno.ENOMEM;
        foreach (ulong candidate in AddressGaps.Find(regions, near, reach, length, highest))
        {
            if (++attempts > MaximalAttempts)
            {
                break;
            }

            RemoteResult result = RemoteSystemCall.Invoke(
                platform,
                in thread,
                numbers.Mmap,
                [candidate, length, (ulong)access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, ulong.MaxValue, 0],
                held);
            lastStatus = result.LastStatus;
            if (result.Failure == Errno.None && (ulong)result.Value == candidate)
            {
                address = candidate;
                return Errno.None;
            }

            if (result.Failure == Errno.None)
            {
                // A kernel before 4.17 takes the address for a hint only.
                Errno unmapError = Unmap(platform, in thread, (ulong)result.Value, length, held, out lastStatus);
                if (unmapError != Errno.None)
                {
                    return unmapError;
                }
            }
            else if (result.Error != Errno.None || result.Failure is not (Errno.EEXIST or Errno.EPERM or Errno.ENOMEM))
            {
                // Taken meanwhile, below the lowest address allowed, or beyond the highest: the next gap may do. All else is final.
                return result.Failure;
            }
            else
            {
                error = result.Failure;
            }
        }

        return error;
    }

    /// <summary>munmap.</summary>
    public static Errno Unmap(
        IPlatform platform,
        in RemoteThread thread,
        ulong address,
        ulong length,
        List<SignalInfo> held,
        out WaitStatus lastStatus)
    {
        SystemCallNumbers numbers = SystemCallNumbers.Of(thread.Architecture);
        RemoteResult result = RemoteSystemCall.Invoke(platform, in thread, numbers.Munmap, [address, length], held);
        lastStatus = result.LastStatus;
        return result.Failure;
    }
}
