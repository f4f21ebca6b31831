namespace FastTrap.Isa;

/// <summary>The data memory of a target as an emulator sees it. Implementations allocate nothing and throw nothing.</summary>
internal interface ITargetMemory
{
    /// <summary>Reads all of <paramref name="buffer"/>, or returns false.</summary>
    bool TryRead(ulong address, Span<byte> buffer);

    /// <summary>Writes all of <paramref name="bytes"/>, or writes nothing and returns false. One call never crosses a page.</summary>
    bool TryWrite(ulong address, ReadOnlySpan<byte> bytes);
}

/// <summary>How an emulation ended.</summary>
internal enum EmulationOutcome
{
    /// <summary>The registers, the program counter included, and memory are as after the instruction.</summary>
    Done,

    /// <summary>A byte could not be read. Nothing was changed.</summary>
    ReadFault,

    /// <summary>A byte could not be written. Nothing was changed.</summary>
    WriteFault,
}
