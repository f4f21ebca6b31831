namespace FastTrap.Probes;

/// <summary>Reads code: as much of the buffer as there is, from the target's text without our traps, or from a file. Returns bytes read.</summary>
internal delegate int ReadCode(ulong address, Span<byte> buffer);

/// <summary>
/// Code at ascending addresses, read in large pieces and given out in small ones. One thread.
/// </summary>
internal sealed class CodeWindow(ReadCode read)
{
    private const int WindowLength = 256 * 1024;

    private byte[] _window = new byte[WindowLength];
    private ulong _start;
    private int _length;

    /// <summary>The bytes at an address: <paramref name="length"/>, or fewer where readable memory ends. Valid until the next call.</summary>
    public ReadOnlySpan<byte> Get(ulong address, int length)
    {
        if (address < _start || address + (ulong)length > _start + (ulong)_length)
        {
            Fill(address, length);
        }

        if (address < _start || address - _start >= (ulong)_length)
        {
            return default;
        }

        int offset = (int)(address - _start);
        return _window.AsSpan(offset, Math.Min(length, _length - offset));
    }

    private void Fill(ulong address, int length)
    {
        if (length > _window.Length)
        {
            _window = new byte[length];
        }

        _start = address;
        _length = Math.Max(0, read(address, _window));
        if (_length < length)
        {
            // A page may be missing behind: what is wanted may still be there.
            _length = Math.Max(_length, Math.Max(0, read(address, _window.AsSpan(0, length))));
        }
    }
}
