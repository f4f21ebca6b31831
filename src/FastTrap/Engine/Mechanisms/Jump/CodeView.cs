namespace FastTrap.Engine.Mechanisms;

/// <summary>What the text shows, without our own traps and jumps, read by pages: sites come in the order of addresses, and a system call for each would take longer than all else that is done to choose it. Control thread only.</summary>
internal sealed class CodeView(Proc proc)
{
    private const int PageLength = 4096;

    /// <summary>Whole pages, and what reaches from one of the first into the last.</summary>
    private readonly byte[] _bytes = new byte[5 * PageLength];

    private ulong _start;
    private int _length;

    /// <summary>Whether some bytes stand at an address.</summary>
    public bool Shows(ulong address, ReadOnlySpan<byte> expected)
    {
        if (!Holds(address, expected.Length))
        {
            _start = address & ~(PageLength - 1UL);
            _length = Math.Max(0, proc.ReadMemory(_start, _bytes));
        }

        return Holds(address, expected.Length) && _bytes.AsSpan((int)(address - _start), expected.Length).SequenceEqual(expected);
    }

    /// <summary>Reports were handled meanwhile, or time has gone: what was read is of no use any more.</summary>
    public void Forget() => _length = 0;

    private bool Holds(ulong address, int length) => address - _start < (ulong)_length && _length - (int)(address - _start) >= length;
}
