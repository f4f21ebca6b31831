using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>Robust mutexes (<c>pthread.h</c>), which return error numbers.</summary>
internal static unsafe partial class LibC
{
    public const int PTHREAD_MUTEX_ROBUST = 1;
    public const int PTHREAD_PROCESS_SHARED = 1;

    /// <summary>Bytes that hold a pthread_mutexattr_t of any C library.</summary>
    public const int MutexAttributeRoom = 64;

    // sys/mman.h
    public const int MREMAP_MAYMOVE = 1;
    public const int MREMAP_FIXED = 2;

    [LibraryImport(Library)]
    public static partial int pthread_mutexattr_init(byte* attributes);

    [LibraryImport(Library)]
    public static partial int pthread_mutexattr_setrobust(byte* attributes, int robustness);

    [LibraryImport(Library)]
    public static partial int pthread_mutexattr_setpshared(byte* attributes, int shared);

    [LibraryImport(Library)]
    public static partial int pthread_mutex_init(byte* mutex, byte* attributes);

    [LibraryImport(Library)]
    public static partial int pthread_mutex_trylock(byte* mutex);

    [LibraryImport(Library)]
    public static partial int pthread_mutex_unlock(byte* mutex);

    [LibraryImport(Library, SetLastError = true)]
    public static partial byte* mremap(byte* address, nuint length, nuint newLength, int flags, byte* newAddress);
}
