namespace FastTrap.Programs;

/// <summary>What a probe program sees of a hit.</summary>
internal interface IProgramInput
{
    ulong ReturnValue { get; }

    int ThreadId { get; }

    int ProcessId { get; }

    long TimestampNs { get; }

    ulong ProgramCounter { get; }

    bool TryGetArgument(int index, out ulong value);

    /// <summary>Reads target memory; false if not all of it is there.</summary>
    bool TryRead(ulong address, scoped Span<byte> buffer);
}
