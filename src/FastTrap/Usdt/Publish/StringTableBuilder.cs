using System.Text;

namespace FastTrap.Usdt;

/// <summary>A table of ASCII names, each with a terminating zero, as ELF has it.</summary>
internal sealed class StringTableBuilder
{
    private readonly List<byte> _bytes = [];

    /// <summary>Bytes.</summary>
    public int Length => _bytes.Count;

    /// <summary>Appends a name; returns where it begins.</summary>
    public uint Add(string name)
    {
        uint offset = (uint)_bytes.Count;
        _bytes.AddRange(Encoding.ASCII.GetBytes(name));
        _bytes.Add(0);
        return offset;
    }

    /// <summary>The name that begins there.</summary>
    public ReadOnlySpan<byte> Get(uint offset)
    {
        int end = _bytes.IndexOf(0, (int)offset);
        return _bytes.GetRange((int)offset, end - (int)offset).ToArray();
    }

    /// <summary>Copies the table.</summary>
    public void CopyTo(Span<byte> destination) => _bytes.ToArray().CopyTo(destination);
}
