using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace FastTrap.Native;

/// <summary>The memory of other processes. Nothing here allocates, but for <see cref="OpenMemory"/>.</summary>
internal sealed unsafe partial class LinuxPlatform
{
    public int ReadMemory(int processId, ulong address, Span<byte> buffer)
    {
        if (buffer.IsEmpty)
        {
            return 0;
        }

        fixed (byte* bytes = buffer)
        {
            IoVector local = new() { iov_base = (ulong)bytes, iov_len = (nuint)buffer.Length };
            IoVector remote = new() { iov_base = address, iov_len = (nuint)buffer.Length };
            return CountOrError(LibC.process_vm_readv(processId, &local, 1, &remote, 1, 0));
        }
    }

    public int WriteMemory(int processId, ulong address, ReadOnlySpan<byte> buffer)
    {
        if (buffer.IsEmpty)
        {
            return 0;
        }

        fixed (byte* bytes = buffer)
        {
            IoVector local = new() { iov_base = (ulong)bytes, iov_len = (nuint)buffer.Length };
            IoVector remote = new() { iov_base = address, iov_len = (nuint)buffer.Length };
            return CountOrError(LibC.process_vm_writev(processId, &local, 1, &remote, 1, 0));
        }
    }

    [SkipLocalsInit]
    public void ReadMemoryBatch(int processId, ReadOnlySpan<ulong> addresses, int length, Span<byte> buffer, Span<bool> ok)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        ArgumentOutOfRangeException.ThrowIfLessThan(ok.Length, addresses.Length);
        ArgumentOutOfRangeException.ThrowIfLessThan(buffer.Length, (long)addresses.Length * length, nameof(buffer));

        IoVector* remote = stackalloc IoVector[Math.Min(addresses.Length, LibC.IOV_MAX)];
        fixed (byte* bytes = buffer)
        {
            int next = 0;
            while (next < addresses.Length)
            {
                int count = Math.Min(addresses.Length - next, LibC.IOV_MAX);

                // The kernel sums the lengths and refuses what does not fit its counter.
                count = (int)Math.Min(count, Math.Max(1, int.MaxValue / (long)length));
                for (int i = 0; i < count; i++)
                {
                    remote[i].iov_base = addresses[next + i];
                    remote[i].iov_len = (nuint)length;
                }

                IoVector local = new() { iov_base = (ulong)(bytes + ((long)next * length)), iov_len = (nuint)count * (nuint)length };
                int read = CountOrError(LibC.process_vm_readv(processId, &local, 1, remote, (nuint)count, 0));
                if (read < 0 && read != -(int)Errno.EFAULT)
                {
                    // Not about this piece: the process is gone or forbidden.
                    ok[next..addresses.Length].Clear();
                    buffer.Slice(next * length, (addresses.Length - next) * length).Clear();
                    return;
                }

                int whole = Math.Max(read, 0) / length;
                ok.Slice(next, whole).Fill(true);
                next += whole;
                if (whole < count)
                {
                    ok[next] = false;
                    buffer.Slice(next * length, length).Clear();
                    next++;
                }
            }
        }
    }

    public Errno OpenMemory(int processId, out TargetMemory memory)
    {
        int fd = Open($"/proc/{processId}/mem", LibC.O_RDWR | LibC.O_CLOEXEC);
        memory = new TargetMemory(processId, fd < 0 ? null : new SafeFileHandle(fd, ownsHandle: true));
        return fd < 0 ? (Errno)(-fd) : Errno.None;
    }

    public int WriteCode(TargetMemory memory, ulong address, ReadOnlySpan<byte> code)
    {
        if (memory.Handle is not { IsClosed: false } handle)
        {
            return -(int)Errno.EBADF;
        }

        bool referenced = false;
        try
        {
            handle.DangerousAddRef(ref referenced);
            fixed (byte* bytes = code)
            {
                nint written;
                do
                {
                    // FOLL_FORCE breaks copy-on-write of read-only text; the kernel's copy does the instruction-cache maintenance.
                    written = LibC.pwrite((int)handle.DangerousGetHandle(), bytes, (nuint)code.Length, (long)address);
                }
                while (written < 0 && LibC.LastError == Errno.EINTR);

                return CountOrError(written);
            }
        }
        finally
        {
            if (referenced)
            {
                handle.DangerousRelease();
            }
        }
    }

    public int ReadCode(TargetMemory memory, ulong address, Span<byte> code)
    {
        if (memory.Handle is not { IsClosed: false } handle)
        {
            return -(int)Errno.EBADF;
        }

        try
        {
            return ReadAt(handle, (long)address, code);
        }
        catch (ObjectDisposedException)
        {
            // Closed by another thread since we looked.
            return -(int)Errno.EBADF;
        }
    }

    /// <summary>pread with EINTR retried; bytes or a negative errno.</summary>
    internal static int ReadAt(SafeHandle handle, long offset, Span<byte> buffer)
    {
        bool referenced = false;
        try
        {
            handle.DangerousAddRef(ref referenced);
            fixed (byte* bytes = buffer)
            {
                nint read;
                do
                {
                    read = LibC.pread((int)handle.DangerousGetHandle(), bytes, (nuint)buffer.Length, offset);
                }
                while (read < 0 && LibC.LastError == Errno.EINTR);

                return CountOrError(read);
            }
        }
        finally
        {
            if (referenced)
            {
                handle.DangerousRelease();
            }
        }
    }

    private static int CountOrError(nint result) => result >= 0 ? (int)result : -(int)LibC.LastError;
}
