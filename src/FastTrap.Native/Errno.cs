namespace FastTrap.Native;

/// <summary>Error numbers of Linux that this library tells apart (<c>asm-generic/errno.h</c>); other values occur.</summary>
internal enum Errno
{
    None = 0,
    EPERM = 1,
    ENOENT = 2,
    ESRCH = 3,
    EINTR = 4,
    EIO = 5,
    ENOEXEC = 8,
    EBADF = 9,
    ECHILD = 10,
    EAGAIN = 11,
    ENOMEM = 12,
    EACCES = 13,
    EFAULT = 14,
    EBUSY = 16,
    EEXIST = 17,
    ENOTDIR = 20,
    EISDIR = 21,
    EINVAL = 22,
    EMFILE = 24,
    ENAMETOOLONG = 36,
    ENOSYS = 38,
    ELOOP = 40,
}
