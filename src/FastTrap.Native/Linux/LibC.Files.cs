using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>
/// The C library: files (<c>fcntl.h</c>, <c>unistd.h</c>, <c>poll.h</c>, <c>sys/stat.h</c>). Flags are those equal on x86-64 and arm64.
/// </summary>
internal static unsafe partial class LibC
{
    // fcntl.h (asm-generic values; O_DIRECTORY and O_NOFOLLOW differ by architecture, so they are not used)
    public const int O_RDONLY = 0;
    public const int O_WRONLY = 1;
    public const int O_RDWR = 2;
    public const int O_CREAT = 0x40;
    public const int O_EXCL = 0x80;
    public const int O_NOCTTY = 0x100;
    public const int O_TRUNC = 0x200;
    public const int O_NONBLOCK = 0x800;
    public const int O_CLOEXEC = 0x80000;
    public const int O_PATH = 0x200000;

    // linux/memfd.h; MFD_NOEXEC_SEAL and MFD_EXEC since Linux 6.3
    public const uint MFD_CLOEXEC = 1;
    public const uint MFD_NOEXEC_SEAL = 8;
    public const uint MFD_EXEC = 0x10;

    // asm-generic/mman-common.h
    public const int MADV_WIPEONFORK = 18;

    // linux/stat.h, linux/fcntl.h
    public const int AT_EMPTY_PATH = 0x1000;
    public const uint STATX_BASIC_STATS = 0x7ff;
    public const int S_IFMT = 0xf000;
    public const int S_IFREG = 0x8000;

    // poll.h
    public const short POLLIN = 1;

    [LibraryImport(Library, SetLastError = true)]
    public static partial int open(byte* path, int flags, int mode);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint read(int fd, byte* buffer, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint pread(int fd, byte* buffer, nuint length, long offset);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint pwrite(int fd, byte* buffer, nuint length, long offset);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint readlink(byte* path, byte* buffer, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int mkfifo(byte* path, uint mode);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int unlink(byte* path);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int rmdir(byte* path);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int rename(byte* path, byte* newPath);

    /// <summary>Replaces the last six bytes, XXXXXX, by what makes the name new; mode 0700.</summary>
    [LibraryImport(Library, SetLastError = true)]
    public static partial byte* mkdtemp(byte* template);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int memfd_create(byte* name, uint flags);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int ftruncate(int fd, long length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial byte* mmap(byte* address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int mprotect(byte* address, nuint length, int protection);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int munmap(byte* address, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int poll(PollDescriptor* descriptors, nuint count, int timeoutMs);
}

/// <summary>struct pollfd (<c>poll.h</c>).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct PollDescriptor
{
    public int fd;
    public short events;
    public short revents;
}

/// <summary>The fields of struct statx that are read here (<c>linux/stat.h</c>); the same on all architectures.</summary>
[StructLayout(LayoutKind.Explicit, Size = 256)]
internal struct StatX
{
    [FieldOffset(0x1c)]
    public ushort stx_mode;

    [FieldOffset(0x20)]
    public ulong stx_ino;

    [FieldOffset(0x28)]
    public ulong stx_size;

    /// <summary>Seconds of the last change of the contents.</summary>
    [FieldOffset(0x70)]
    public long stx_mtime_sec;

    [FieldOffset(0x78)]
    public uint stx_mtime_nsec;

    [FieldOffset(0x88)]
    public uint stx_dev_major;

    [FieldOffset(0x8c)]
    public uint stx_dev_minor;
}

/// <summary>The head of struct linux_dirent64 (getdents64(2)); a NUL-terminated name follows.</summary>
[StructLayout(LayoutKind.Explicit)]
internal struct DirectoryEntry
{
    public const int NameOffset = 19;

    [FieldOffset(16)]
    public ushort d_reclen;
}
