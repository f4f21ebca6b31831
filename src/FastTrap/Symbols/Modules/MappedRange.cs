namespace FastTrap.Symbols;

/// <summary>A line of <c>/proc/PID/maps</c>. <see cref="Path"/> is without the suffix that marks deleted files.</summary>
internal readonly record struct MappedRange(
    ulong Start, ulong End, ulong FileOffset, bool Executable, bool Writable, string Path, ulong Inode, bool Deleted, ulong Device = 0)
{
    private const string DeletedSuffix = " (deleted)";

    /// <summary>Bytes.</summary>
    public ulong Length => End - Start;

    /// <summary>Whether a file stands behind it.</summary>
    public bool IsFile => Path.StartsWith('/') && Inode != 0;

    /// <summary>Takes the kernel's mark of a deleted file off the path, if the caller has not.</summary>
    public MappedRange WithoutSuffix() =>
        Path.EndsWith(DeletedSuffix, StringComparison.Ordinal) ? this with { Path = Path[..^DeletedSuffix.Length], Deleted = true } : this;
}

/// <summary>Reads target memory: all of the buffer or nothing.</summary>
internal delegate bool ReadTargetMemory(ulong address, Span<byte> buffer);
