using FastTrap.Native;

namespace FastTrap.Symbols;

/// <summary>A range of target memory read as if it were a file: the vdso exists nowhere else.</summary>
internal sealed class TargetMemoryFile(ReadTargetMemory read, ulong start, ulong length) : TargetFile
{
    public override long Length { get; } = (long)Math.Min(length, long.MaxValue);

    public override FileIdentity Identity => new(0, 0, 0, Length);

    public override int Read(long fileOffset, Span<byte> buffer)
    {
        if (fileOffset < 0 || fileOffset >= Length)
        {
            return 0;
        }

        int count = (int)Math.Min(buffer.Length, Length - fileOffset);
        return read(start + (ulong)fileOffset, buffer[..count]) ? count : 0;
    }

    protected override void Dispose(bool disposing)
    {
    }
}
