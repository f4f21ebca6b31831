using System.Buffers;
using System.Buffers.Text;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace FastTrap.Native;

/// <summary>Files and /proc.</summary>
internal sealed unsafe partial class LinuxPlatform
{
    /// <summary>Nothing in /proc that we read is larger; a path given by a hostile target shall not take all memory.</summary>
    private const int MaximalProcFileLength = 512 * 1024 * 1024;

    private const int EFBIG = 27;
    private const int LongestPath = 4096;

    public byte[]? ReadProcFile(string path, out Errno error)
    {
        int fd = Open(path, LibC.O_RDONLY | LibC.O_CLOEXEC | LibC.O_NONBLOCK | LibC.O_NOCTTY);
        if (fd < 0)
        {
            error = (Errno)(-fd);
            return null;
        }

        using SafeFileHandle handle = new(fd, ownsHandle: true);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(16 * 1024);
        try
        {
            int length = 0;
            while (true)
            {
                nint read;
                fixed (byte* bytes = &buffer[length])
                {
                    read = LibC.read(fd, bytes, (nuint)(buffer.Length - length));
                }

                if (read < 0)
                {
                    error = LibC.LastError;
                    if (error == Errno.EINTR)
                    {
                        continue;
                    }

                    return null;
                }

                if (read == 0)
                {
                    error = Errno.None;
                    return buffer.AsSpan(0, length).ToArray();
                }

                length += (int)read;
                if (length == buffer.Length)
                {
                    if (length >= MaximalProcFileLength)
                    {
                        error = (Errno)EFBIG;
                        return null;
                    }

                    byte[] larger = ArrayPool<byte>.Shared.Rent(length * 2);
                    buffer.AsSpan(0, length).CopyTo(larger);
                    ArrayPool<byte>.Shared.Return(buffer);
                    buffer = larger;
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    [SkipLocalsInit]
    public string? ReadLink(string path, out Errno error)
    {
        if (ToNative(path) is not { } native)
        {
            error = Errno.ENOENT;
            return null;
        }

        byte* buffer = stackalloc byte[LongestPath];
        nint length;
        fixed (byte* pointer = native)
        {
            length = LibC.readlink(pointer, buffer, LongestPath);
        }

        error = length < 0 ? LibC.LastError : length == LongestPath ? Errno.ENAMETOOLONG : Errno.None;
        return error == Errno.None ? Encoding.UTF8.GetString(buffer, (int)length) : null;
    }

    [SkipLocalsInit]
    public int ListProcIds(string path, List<int> ids)
    {
        ids.Clear();
        int fd = Open(path, LibC.O_RDONLY | LibC.O_CLOEXEC | LibC.O_NONBLOCK);
        if (fd < 0)
        {
            return fd;
        }

        using SafeFileHandle handle = new(fd, ownsHandle: true);
        const int BufferLength = 8 * 1024;
        byte* buffer = stackalloc byte[BufferLength];
        while (true)
        {
            int filled = CountOrError(SystemCall(s_numbers.GetDents64, fd, (nint)buffer, BufferLength));
            if (filled == -(int)Errno.EINTR)
            {
                continue;
            }

            if (filled <= 0)
            {
                return filled < 0 ? filled : ids.Count;
            }

            for (int at = 0; at < filled;)
            {
                DirectoryEntry* entry = (DirectoryEntry*)(buffer + at);
                ReadOnlySpan<byte> name = MemoryMarshal.CreateReadOnlySpanFromNullTerminated((byte*)entry + DirectoryEntry.NameOffset);
                if (Utf8Parser.TryParse(name, out int id, out int used) && used == name.Length && id > 0)
                {
                    ids.Add(id);
                }

                at += entry->d_reclen;
            }
        }
    }

    public Errno OpenFile(string path, out TargetFile? file)
    {
        file = null;

        // Not blocking: the path may lead to a FIFO or a device, which is opened here only to be refused.
        int fd = Open(path, LibC.O_RDONLY | LibC.O_CLOEXEC | LibC.O_NONBLOCK | LibC.O_NOCTTY);
        if (fd < 0)
        {
            return (Errno)(-fd);
        }

        SafeFileHandle handle = new(fd, ownsHandle: true);
        StatX stat;
        byte empty = 0;
        Errno error = Check(
            SystemCall(s_numbers.StatX, fd, (nint)(&empty), LibC.AT_EMPTY_PATH, (nint)LibC.STATX_BASIC_STATS, (nint)(&stat)));
        if (error == Errno.None && (stat.stx_mode & LibC.S_IFMT) != LibC.S_IFREG)
        {
            error = Errno.EINVAL;
        }

        if (error != Errno.None)
        {
            handle.Dispose();
            return error;
        }

        FileIdentity identity = new(
            DeviceNumber.Make(stat.stx_dev_major, stat.stx_dev_minor),
            stat.stx_ino,
            (stat.stx_mtime_sec * 1_000_000_000) + stat.stx_mtime_nsec,
            (long)stat.stx_size);
        file = new LinuxFile(handle, identity);
        return Errno.None;
    }

    /// <summary>open with EINTR retried; a descriptor or a negative errno.</summary>
    private static int Open(string path, int flags)
    {
        if (ToNative(path) is not { } native)
        {
            return -(int)Errno.ENOENT;
        }

        fixed (byte* pointer = native)
        {
            int fd;
            do
            {
                fd = LibC.open(pointer, flags, 0);
            }
            while (fd < 0 && LibC.LastError == Errno.EINTR);

            return CountOrError(fd);
        }
    }
}
