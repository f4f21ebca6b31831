using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>A regular file of the guest, read in pieces which are kept: its files do not change.</summary>
internal sealed class GuestFile(GuestPlatform platform, SafeHandle descriptor, FileIdentity identity, ConcurrentDictionary<(FileIdentity File, long Piece), byte[]> pieces)
    : TargetFile
{
    private const int PieceLength = 256 * 1024;

    public override long Length => identity.Length;

    public override FileIdentity Identity => identity;

    public override int Read(long fileOffset, Span<byte> buffer)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(fileOffset);
        int done = 0;
        while (done < buffer.Length)
        {
            long number = (fileOffset + done) / PieceLength;
            byte[] piece = pieces.GetOrAdd((identity, number), key => platform.ReadAt(descriptor, (ulong)(key.Piece * PieceLength), PieceLength));
            int start = (int)(fileOffset + done - (number * PieceLength));
            if (start >= piece.Length)
            {
                break;
            }

            int length = Math.Min(piece.Length - start, buffer.Length - done);
            piece.AsSpan(start, length).CopyTo(buffer[done..]);
            done += length;
        }

        return done;
    }

    protected override void Dispose(bool disposing) => descriptor.Dispose();
}
