namespace FastTrap.Native;

/// <summary>
/// A regular file opened for reading at offsets. It is read, never mapped: a file that is truncated under us gives short reads, not SIGBUS.
/// </summary>
/// <remarks>Reads may be made on any thread at once. Dispose closes it.</remarks>
internal abstract class TargetFile : IDisposable
{
    /// <summary>Bytes, as of opening.</summary>
    public abstract long Length { get; }

    /// <summary>What tells one file from another while both exist: device, inode, and the time of the last change.</summary>
    public abstract FileIdentity Identity { get; }

    /// <summary>Fills <paramref name="buffer"/> from <paramref name="fileOffset"/>. Returns bytes read: fewer at the end of the file or on an error.</summary>
    public abstract int Read(long fileOffset, Span<byte> buffer);

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>Device, inode and last change of a file.</summary>
internal readonly record struct FileIdentity(ulong Device, ulong Inode, long ModifiedNs, long Length);
