using Microsoft.Win32.SafeHandles;

namespace FastTrap.Native;

/// <summary>A regular file behind a descriptor.</summary>
internal sealed class LinuxFile(SafeFileHandle handle, FileIdentity identity) : TargetFile
{
    public override long Length => identity.Length;

    public override FileIdentity Identity => identity;

    public override int Read(long fileOffset, Span<byte> buffer)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(fileOffset);
        int length = 0;
        while (length < buffer.Length)
        {
            int read = LinuxPlatform.ReadAt(handle, fileOffset + length, buffer[length..]);
            if (read <= 0)
            {
                break;
            }

            length += read;
        }

        return length;
    }

    protected override void Dispose(bool disposing) => handle.Dispose();
}
