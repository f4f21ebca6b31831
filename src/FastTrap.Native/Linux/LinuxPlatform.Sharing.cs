using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace FastTrap.Native;

/// <summary>Memory shared with targets, and the time counter of the processor.</summary>
internal sealed unsafe partial class LinuxPlatform
{
    /// <summary>Attempts of which the one counts that took the shortest time: no interrupt came in between.</summary>
    private const int ClockAttempts = 5;

    private static readonly Lazy<nint> s_counter = new(MapCounter);

    public Errno MapMemoryFile(int processId, int descriptor, string name, long length, out SharedMemory? memory)
    {
        memory = null;
        int fd = Open($"/proc/{processId}/fd/{descriptor}", LibC.O_RDWR | LibC.O_CLOEXEC | LibC.O_NONBLOCK | LibC.O_NOCTTY);
        if (fd < 0)
        {
            return (Errno)(-fd);
        }

        using SafeFileHandle handle = new(fd, ownsHandle: true);

        // The target may have closed the descriptor and opened another file meanwhile, whose length is nobody's to change.
        if (ReadLink($"/proc/self/fd/{fd}", out Errno error) != $"/memfd:{name} (deleted)")
        {
            return error == Errno.None ? Errno.EBADF : error;
        }

        do
        {
            error = Check(LibC.ftruncate(fd, length));
        }
        while (error == Errno.EINTR);

        if (error != Errno.None)
        {
            return error;
        }

        byte* start = LibC.mmap(null, (nuint)length, RemoteMemoryMap.PROT_READ | RemoteMemoryMap.PROT_WRITE, RemoteMemoryMap.MAP_SHARED, fd, 0);
        if (start == (byte*)-1)
        {
            return LibC.LastError;
        }

        memory = new SharedMemory((nint)start, length);
        return Errno.None;
    }

    public Errno Hold(SharedMemory memory, long page, out HeldWord? word)
    {
        int length = Environment.SystemPageSize;
        word = null;
        return length != HeldWord.PageLength ? Errno.ENOSYS : HeldWord.Hold((byte*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(memory.Slice(page, length))), out word);
    }

    public Errno ReadClocks(out ClockSample sample)
    {
        sample = default;
        if (s_counter.Value <= 0)
        {
            return (Errno)(-s_counter.Value);
        }

        var counter = (delegate* unmanaged[SuppressGCTransition]<ulong>)s_counter.Value;
        for (int i = 0; i < ClockAttempts; i++)
        {
            ulong before = counter();
            long now = Stopwatch.GetTimestamp();
            ulong spread = counter() - before;
            if (i == 0 || spread < sample.Uncertainty)
            {
                sample = new ClockSample(before + (spread / 2), now * (1_000_000_000 / Stopwatch.Frequency), spread);
            }
        }

        return Errno.None;
    }

    public Errno Execute(ReadOnlySpan<byte> code, int count, nint address, Action before, Span<ulong> results)
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return Errno.ENOSYS;
        }

        nint start = MapCode(code);
        if (start <= 0)
        {
            return (Errno)(-start);
        }

        var function = (delegate* unmanaged<int, nint, ulong>)start;
        foreach (ref ulong result in results)
        {
            before();
            result = function(count, address);
        }

        return Check(LibC.munmap((byte*)start, (nuint)code.Length));
    }

    /// <summary>A few instructions which .NET has no word for, in a page of their own; or a negative errno.</summary>
    private static nint MapCounter()
    {
        ReadOnlySpan<byte> code = RuntimeInformation.ProcessArchitecture == Architecture.X64
            ? [0x0f, 0xae, 0xe8, 0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0xc3] // lfence; rdtsc; shl $32, %rdx; or %rdx, %rax; ret
            : [0xdf, 0x3f, 0x03, 0xd5, 0x40, 0xe0, 0x3b, 0xd5, 0xc0, 0x03, 0x5f, 0xd6]; // isb; mrs x0, cntvct_el0; ret
        return MapCode(code);
    }

    /// <summary>Code in pages of its own; or a negative errno.</summary>
    private static nint MapCode(ReadOnlySpan<byte> code)
    {
        nuint length = (nuint)code.Length;
        byte* start = LibC.mmap(
            null, length, RemoteMemoryMap.PROT_READ | RemoteMemoryMap.PROT_WRITE, RemoteMemoryMap.MAP_PRIVATE | RemoteMemoryMap.MAP_ANONYMOUS, -1, 0);
        if (start == (byte*)-1)
        {
            return -(nint)LibC.LastError;
        }

        code.CopyTo(new Span<byte>(start, code.Length));
        if (LibC.mprotect(start, length, RemoteMemoryMap.PROT_READ | RemoteMemoryMap.PROT_EXEC) != 0)
        {
            nint error = -(nint)LibC.LastError;
            _ = LibC.munmap(start, length);
            return error;
        }

        return start is null ? -(nint)Errno.ENOMEM : (nint)start;
    }
}
