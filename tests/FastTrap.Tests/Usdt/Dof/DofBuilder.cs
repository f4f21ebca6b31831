using System.Buffers.Binary;
using System.Text;

namespace FastTrap.Tests.Usdt.Dof;

/// <summary>A probe to be written.</summary>
internal sealed record BuiltProbe(string Function, string Name, ulong Address)
{
    public uint[] Offsets { get; init; } = [0];

    public uint[] IsEnabledOffsets { get; init; } = [];

    public string[] NativeTypes { get; init; } = [];

    public (string Type, byte Native)[] Arguments { get; init; } = [];
}

/// <summary>
/// Writes DOF by the format's description (struct by struct, as <c>dtrace -G</c> lays them out): string table, then for each provider
/// its probes, argument map, offsets, is-enabled offsets, and itself, then relocations of the probes' addresses.
/// </summary>
internal sealed class DofBuilder
{
    private readonly List<(uint Type, int Alignment, int EntrySize, byte[] Data)> _sections = [];
    private readonly List<byte> _strings = [0];

    public byte Version { get; init; } = 2;

    /// <summary>The kind of the relocation of each probe's address: 0 for none, 1 adds the load base, 2 the place.</summary>
    public uint Relocation { get; init; }

    /// <summary>Index of the string table in the section table.</summary>
    public const int Strings = 1;

    /// <summary>Appends a provider; its attributes are 1/2/3 to 5/2/3 as (name, data, class), the first number by part.</summary>
    public DofBuilder Add(string provider, params BuiltProbe[] probes)
    {
        int first = _sections.Count + 2;
        List<byte> entries = [], map = [], offsets = [], isEnabled = [], relocations = [];
        foreach (BuiltProbe probe in probes)
        {
            Append(relocations, String(probe.Function), Relocation);
            Append(relocations, (ulong)entries.Count, 0UL);
            Append(entries, probe.Address);
            Append(entries, String(probe.Function), String(probe.Name), Types(probe.NativeTypes), Types(probe.Arguments.Select(argument => argument.Type)));
            Append(entries, (uint)map.Count, (uint)offsets.Count / 4);
            entries.Add((byte)probe.NativeTypes.Length);
            entries.Add((byte)probe.Arguments.Length);
            entries.AddRange(BitConverter.GetBytes((ushort)probe.Offsets.Length));
            if (Version > 1)
            {
                Append(entries, (uint)isEnabled.Count / 4);
                entries.AddRange(BitConverter.GetBytes((ushort)probe.IsEnabledOffsets.Length));
                entries.AddRange([0, 0]);
            }

            Append(entries, 0u);
            map.AddRange(probe.Arguments.Select(argument => argument.Native));
            Append(offsets, probe.Offsets);
            Append(isEnabled, probe.IsEnabledOffsets);
        }

        List<byte> fields = [];
        Append(fields, Strings, (uint)first, (uint)first + 1, (uint)first + 2, String(provider));
        for (uint part = 1; part <= 5; part++)
        {
            Append(fields, (part << 24) | (2 << 16) | (3 << 8));
        }

        if (Version > 1)
        {
            Append(fields, isEnabled.Count > 0 ? (uint)first + 3 : 0);
        }

        Section(16, 8, Version > 1 ? 48 : 40, entries);
        Section(17, 1, 1, map);
        Section(18, 4, 4, offsets);
        Section(26, 4, 4, isEnabled);
        Section(15, 4, 0, fields);
        if (Relocation != 0)
        {
            List<byte> header = [];
            Append(header, Strings, (uint)first + 5, (uint)first);
            Section(10, 8, 24, relocations);
            Section(12, 4, 0, header);
        }

        return this;
    }

    /// <summary>Appends any section; returns its index.</summary>
    public int Section(uint type, int alignment, int entrySize, List<byte> data)
    {
        _sections.Add((type, alignment, entrySize, [.. data]));
        return _sections.Count + 1;
    }

    public byte[] Build()
    {
        // Section 0 is a comment that need not be loaded, as dtrace writes it.
        (uint Type, int Alignment, int EntrySize, byte[] Data)[] all = [(1, 1, 0, Encoding.ASCII.GetBytes("made by a test\0")), (8, 1, 0, [.. _strings]), .. _sections];
        int at = 64 + (all.Length * 32);
        List<byte> table = [], data = [];
        foreach ((uint type, int alignment, int entrySize, byte[] bytes) in all)
        {
            bool isLoaded = type != 1;
            while ((at + data.Count) % alignment != 0)
            {
                data.Add(0);
            }

            Append(table, type, (uint)alignment, isLoaded ? 1u : 0u, (uint)entrySize);
            Append(table, (ulong)(at + data.Count), (ulong)bytes.Length);
            data.AddRange(bytes);
        }

        List<byte> file = [0x7f, (byte)'D', (byte)'O', (byte)'F', 2, 1, Version, 2, 8, 8, 0, 0, 0, 0, 0, 0];
        Append(file, 0, 64, 32, (uint)all.Length);
        Append(file, 64UL, (ulong)(at + data.Count), (ulong)(at + data.Count), 0UL);
        return [.. file, .. table, .. data];
    }

    private static void Append(List<byte> bytes, params uint[] values)
    {
        foreach (uint value in values)
        {
            byte[] field = new byte[4];
            BinaryPrimitives.WriteUInt32LittleEndian(field, value);
            bytes.AddRange(field);
        }
    }

    private static void Append(List<byte> bytes, params ulong[] values)
    {
        foreach (ulong value in values)
        {
            byte[] field = new byte[8];
            BinaryPrimitives.WriteUInt64LittleEndian(field, value);
            bytes.AddRange(field);
        }
    }

    private uint String(string text)
    {
        uint offset = (uint)_strings.Count;
        _strings.AddRange(Encoding.UTF8.GetBytes(text));
        _strings.Add(0);
        return offset;
    }

    private uint Types(IEnumerable<string> types)
    {
        uint offset = (uint)_strings.Count;
        foreach (string type in types)
        {
            String(type);
        }

        return offset;
    }
}
