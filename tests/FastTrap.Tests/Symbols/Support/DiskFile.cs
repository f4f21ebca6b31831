using FastTrap.Native;
using Microsoft.Win32.SafeHandles;

namespace FastTrap.Tests.Symbols;

/// <summary>A file of this machine, or bytes in memory, as the symbol layer sees files.</summary>
internal sealed class DiskFile : TargetFile
{
    private readonly SafeFileHandle? _handle;
    private readonly byte[] _bytes;

    public DiskFile(string path)
    {
        _handle = File.OpenHandle(path);
        _bytes = [];
        Length = RandomAccess.GetLength(_handle);
        Identity = new FileIdentity(0, Inode(path), File.GetLastWriteTimeUtc(path).Ticks * 100, Length);
    }

    public DiskFile(byte[] bytes)
    {
        _bytes = bytes;
        Length = bytes.Length;
        Identity = new FileIdentity(1, (ulong)bytes.GetHashCode(), 0, Length);
    }

    public override long Length { get; }

    public override FileIdentity Identity { get; }

    /// <summary>Bytes that were asked for and given, in all.</summary>
    public long BytesRead { get; private set; }

    public override int Read(long fileOffset, Span<byte> buffer)
    {
        int count = ReadBytes(fileOffset, buffer);
        BytesRead += count;
        return count;
    }

    protected override void Dispose(bool disposing) => _handle?.Dispose();

    private int ReadBytes(long fileOffset, Span<byte> buffer)
    {
        if (_handle != null)
        {
            return RandomAccess.Read(_handle, buffer, fileOffset);
        }

        if (fileOffset < 0 || fileOffset >= _bytes.Length)
        {
            return 0;
        }

        ReadOnlySpan<byte> rest = _bytes.AsSpan((int)fileOffset);
        int count = Math.Min(rest.Length, buffer.Length);
        rest[..count].CopyTo(buffer);
        return count;
    }

    private static ulong Inode(string path) => ulong.Parse(Tool.Run("stat", "-L", "-c", "%i", path), null);
}
