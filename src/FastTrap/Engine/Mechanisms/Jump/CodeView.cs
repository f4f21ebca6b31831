namespace FastTrap.Engine.Mechanisms;

/// <summary>What the text shows, without our own traps and jumps, read by pages: sites come in the order of addresses, and a system call for each would take longer than all else that is done to choose it. Control thread only.</summary>
/// <remarks>Only pages of what is asked for are read: its neighbours may not be there, or wait for somebody who fills them.</remarks>
internal sealed class CodeView(Proc proc)
{
    private const ulong PageLength = 4096;

    private readonly byte[] _bytes = new byte[2 * PageLength];
    private ulong _start;
    private int _length;
    private long _readBehind;

    /// <summary>Whether some bytes, no more than a page, stand at an address.</summary>
    public bool Shows(ulong address, ReadOnlySpan<byte> expected)
    {
        if (!Holds(address, expected.Length))
        {
            _start = address & ~(PageLength - 1);
            ulong end = (address + (ulong)expected.Length + PageLength - 1) & ~(PageLength - 1);
            _readBehind = proc.Process.Thread.LastReport;
            _length = Math.Max(0, proc.ReadMemory(_start, _bytes.AsSpan(0, (int)(end - _start))));
        }

        return Holds(address, expected.Length) && _bytes.AsSpan((int)(address - _start), expected.Length).SequenceEqual(expected);
    }

    /// <summary>Time has gone: what was read is of no use any more.</summary>
    public void Forget() => _length = 0;

    /// <summary>What is handled with a report may change the text: it may be the linker's, or a new thread's or program's.</summary>
    private bool Holds(ulong address, int length) =>
        proc.Process.Thread.LastReport == _readBehind && address - _start < (ulong)_length && _length - (int)(address - _start) >= length;
}
