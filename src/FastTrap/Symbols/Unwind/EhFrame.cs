namespace FastTrap.Symbols;

/// <summary>
/// The ranges of code which .eh_frame describes: nearly always one for each function, and one more for the part that was split off it.
/// Addresses are link-time ones. Immutable; any thread.
/// </summary>
internal sealed class EhFrame
{
    /// <summary>A handler table that exists, but whose address the file does not tell.</summary>
    public const ulong UnknownTable = ulong.MaxValue;

    private readonly ulong[] _starts;
    private readonly uint[] _lengths;
    private readonly bool[] _continuations;

    private readonly (ulong Start, ulong Table)[] _handlerTables;

    internal EhFrame(ulong[] starts, uint[] lengths, bool[] continuations, (ulong Start, ulong Table)[] handlerTables)
    {
        _handlerTables = handlerTables;
        _starts = starts;
        _lengths = lengths;
        _continuations = continuations;
    }

    /// <summary>No ranges.</summary>
    public static EhFrame Empty { get; } = new([], [], [], []);

    /// <summary>The ranges which have a table of exception handlers (LSDA), and its address.</summary>
    public ReadOnlySpan<(ulong Start, ulong Table)> HandlerTables => _handlerTables;

    /// <summary>How many ranges there are.</summary>
    public int Count => _starts.Length;

    /// <summary>Reads the unwind tables of a file; empty when it has none.</summary>
    /// <exception cref="ElfFormatException">They are malformed, or larger than the limits.</exception>
    public static EhFrame Read(ElfFile elf) => EhFrameParser.Read(elf);

    /// <summary>A range by its number, in order of addresses.</summary>
    public (ulong Start, ulong Length, bool IsContinuation) GetRange(int index) => (_starts[index], _lengths[index], _continuations[index]);

    /// <summary>
    /// Finds the range that contains an address. <paramref name="isContinuation"/> tells that at its start a frame already stands (the
    /// canonical frame address is not what it is right after a call), so where no symbol begins there, it is the split-off part of
    /// another function.
    /// </summary>
    public bool TryFindRange(ulong address, out ulong start, out ulong length, out bool isContinuation)
    {
        int index = Array.BinarySearch(_starts, address);
        index = index < 0 ? ~index - 1 : index;
        if (index >= 0 && address - _starts[index] < _lengths[index])
        {
            start = _starts[index];
            length = _lengths[index];
            isContinuation = _continuations[index];
            return true;
        }

        start = 0;
        length = 0;
        isContinuation = false;
        return false;
    }
}
