namespace FastTrap.Symbols;

/// <summary>A program header. Nothing in it has been checked against the file's length.</summary>
internal readonly record struct ElfSegment(uint Type, uint Flags, ulong FileOffset, ulong Address, ulong FileSize, ulong MemorySize, ulong Alignment)
{
    public const uint Load = 1;
    public const uint Dynamic = 2;
    public const uint Interpreter = 3;
    public const uint Note = 4;
    public const uint ThreadLocal = 7;
    public const uint EhFrameHeader = 0x6474e550;

    /// <summary>PF_X.</summary>
    public bool IsExecutable => (Flags & 1) != 0;

    /// <summary>PF_W.</summary>
    public bool IsWritable => (Flags & 2) != 0;

    /// <summary>Whether the segment's memory covers a link-time address.</summary>
    public bool Contains(ulong address) => address - Address < MemorySize;
}
