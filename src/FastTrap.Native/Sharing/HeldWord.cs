namespace FastTrap.Native;

/// <summary>
/// A word of shared memory which is the id of a thread of ours for as long as that holds it and lives: the kernel itself marks it when the thread ends, by SIGKILL as well. Who shares the memory can see so whether it lives.
/// </summary>
/// <remarks>
/// It is the word of a robust mutex, of which the kernel looks through a thread's list when it ends. The list goes through the mutex; since who shares the memory could write to it, only the mutex's first 16 bytes, with the word, are in the
/// shared page: it lies across the border to a page of our own. Held and given back by one thread.
/// </remarks>
internal sealed unsafe class HeldWord
{
    public const int PageLength = 4096;

    /// <summary>Bytes at the end of a page of shared memory which it takes.</summary>
    public const int SharedLength = 16;

    /// <summary>A word is held by somebody who lives if it is at least 1 and less than this.</summary>
    public const uint Ended = 0x4000_0000;

    /// <summary>The kernel looks through 2,048 of a thread's mutexes; others have some, too.</summary>
    public const int MostOfAThread = 1024;

    [ThreadStatic]
    private static int s_held;

    private readonly byte* _pages;
    private readonly byte[] _shared = new byte[SharedLength];
    private readonly int _thread = Environment.CurrentManagedThreadId;
    private bool _isHeld = true;

    private HeldWord(byte* pages, int index)
    {
        _pages = pages;
        Index = index;
        new ReadOnlySpan<byte>(pages + PageLength - SharedLength, SharedLength).CopyTo(_shared);
    }

    /// <summary>Which of the four words of the shared bytes it is: that is the C library's choice.</summary>
    public int Index { get; }

    /// <summary>Holds a word at the end of a page of shared memory, whose last bytes nobody else may use. EAGAIN: the thread holds as many as it can.</summary>
    public static Errno Hold(byte* page, out HeldWord? word)
    {
        word = null;
        if (s_held == MostOfAThread)
        {
            return Errno.EAGAIN;
        }

        byte* pages = LibC.mmap(
            null, 2 * PageLength, RemoteMemoryMap.PROT_READ | RemoteMemoryMap.PROT_WRITE, RemoteMemoryMap.MAP_PRIVATE | RemoteMemoryMap.MAP_ANONYMOUS, -1, 0);
        if (pages == (byte*)-1)
        {
            return LibC.LastError;
        }

        // Of a length of 0 another mapping of the same page is made.
        byte* mutex = pages + PageLength - SharedLength;
        if (LibC.mremap(page, 0, PageLength, LibC.MREMAP_MAYMOVE | LibC.MREMAP_FIXED, pages) != pages)
        {
            Errno failure = LibC.LastError;
            _ = LibC.munmap(pages + PageLength, PageLength);
            return failure;
        }

        Span<int> before = stackalloc int[SharedLength / sizeof(int)];
        Errno error = Lock(mutex, before);
        if (error == Errno.None)
        {
            // musl's first word is a kind, which may be any number.
            ReadOnlySpan<int> words = new(mutex, before.Length);
            int id = LinuxPlatform.Instance.CurrentThreadId;
            for (int i = 0; i < words.Length; i++)
            {
                if (words[i] == id && before[i] != id)
                {
                    s_held++;
                    word = new HeldWord(pages, i);
                    return Errno.None;
                }
            }

            // Who shares the memory has written to it.
            error = Errno.EIO;
            if (!Unlock(mutex))
            {
                return error;
            }
        }

        _ = LibC.munmap(pages, 2 * PageLength);
        return error;
    }

    /// <summary>Gives it back: it is 0 then. By the thread that holds it.</summary>
    public void Release()
    {
        if (!_isHeld || Environment.CurrentManagedThreadId != _thread)
        {
            throw new InvalidOperationException("A word is given back once, by the thread that holds it.");
        }

        _isHeld = false;
        byte* mutex = _pages + PageLength - SharedLength;

        // Who shares the memory may have written to it. What cannot be unlocked is in the thread's list, and has to stay mapped.
        _shared.CopyTo(new Span<byte>(mutex, SharedLength));
        if (Unlock(mutex))
        {
            s_held--;
            _ = LibC.munmap(_pages, 2 * PageLength);
        }
    }

    private static Errno Lock(byte* mutex, Span<int> before)
    {
        try
        {
            byte* attributes = stackalloc byte[LibC.MutexAttributeRoom];
            int error = LibC.pthread_mutexattr_init(attributes);
            error = error == 0 ? LibC.pthread_mutexattr_setrobust(attributes, LibC.PTHREAD_MUTEX_ROBUST) : error;
            error = error == 0 ? LibC.pthread_mutexattr_setpshared(attributes, LibC.PTHREAD_PROCESS_SHARED) : error;
            error = error == 0 ? LibC.pthread_mutex_init(mutex, attributes) : error;
            new ReadOnlySpan<int>(mutex, before.Length).CopyTo(before);
            return (Errno)(error == 0 ? LibC.pthread_mutex_trylock(mutex) : error);
        }
        catch (EntryPointNotFoundException)
        {
            // glibc before 2.34 has them in another library.
            return Errno.ENOSYS;
        }
    }

    private static bool Unlock(byte* mutex) => LibC.pthread_mutex_unlock(mutex) == 0;
}
