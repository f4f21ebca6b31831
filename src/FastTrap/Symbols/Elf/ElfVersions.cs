using System.Buffers.Binary;
using System.Text;

namespace FastTrap.Symbols;

/// <summary>The symbol versions of a module: for each dynamic symbol a version index, and the names of the indices.</summary>
internal sealed class ElfVersions
{
    private const ushort HiddenBit = 0x8000;
    private const int DefinitionSize = 20;
    private const int NeedSize = 16;
    private const int NeedAuxiliarySize = 16;
    private const int MaxVersions = 0x7fff;

    private readonly byte[] _indices;
    private readonly Dictionary<ushort, string> _names = [];
    private readonly HashSet<ushort> _base = [];

    private ElfVersions(byte[] indices) => _indices = indices;

    /// <summary>No versions at all.</summary>
    public static ElfVersions None { get; } = new([]);

    /// <summary>Reads the version tables for the given number of dynamic symbols.</summary>
    /// <exception cref="ElfFormatException">A table reaches past the end of the file.</exception>
    public static ElfVersions Read(ElfFile elf, int symbolCount, ReadOnlySpan<byte> strings)
    {
        byte[] indices;
        if (elf.TryGetSection(ElfSection.GnuVersions, out ElfSection section))
        {
            indices = elf.ReadRange(section.FileOffset, Math.Min(section.Size, (ulong)symbolCount * 2), ".gnu.version");
        }
        else if (elf.Dynamic.Versions != 0)
        {
            indices = elf.ReadRangeAtAddress(elf.Dynamic.Versions, (ulong)symbolCount * 2, "the version table");
        }
        else
        {
            return None;
        }

        ElfVersions result = new(indices);
        result.ReadDefinitions(ReadTable(elf, ElfSection.GnuVersionDefinitions, elf.Dynamic.VersionDefinitions), strings);
        result.ReadNeeds(ReadTable(elf, ElfSection.GnuVersionNeeds, elf.Dynamic.VersionNeeds), strings);
        return result;
    }

    /// <summary>The version of a dynamic symbol, or null; a default version is the one that a plain name binds to.</summary>
    public string? Get(int symbol, out bool isDefault)
    {
        isDefault = false;
        if ((uint)symbol >= (uint)(_indices.Length / 2))
        {
            return null;
        }

        ushort raw = BinaryPrimitives.ReadUInt16LittleEndian(_indices.AsSpan(symbol * 2));
        ushort index = (ushort)(raw & ~HiddenBit);
        if (index < 2 || _base.Contains(index) || !_names.TryGetValue(index, out string? name))
        {
            return null;
        }

        isDefault = (raw & HiddenBit) == 0;
        return name;
    }

    private static byte[] ReadTable(ElfFile elf, uint sectionType, ulong address)
    {
        if (elf.TryGetSection(sectionType, out ElfSection section))
        {
            return elf.ReadRange(section.FileOffset, section.Size, "a version table");
        }

        // The dynamic segment tells where the table begins, not where it ends; its own links end it.
        if (address == 0 || !elf.TryGetFileOffset(address, out ulong offset, out ulong available))
        {
            return [];
        }

        return elf.ReadRange(offset, Math.Min(available, 1 << 20), "a version table");
    }

    private void ReadDefinitions(ReadOnlySpan<byte> table, ReadOnlySpan<byte> strings)
    {
        ulong offset = 0;
        for (int i = 0; i < MaxVersions && offset + DefinitionSize <= (ulong)table.Length; i++)
        {
            ReadOnlySpan<byte> entry = table[(int)offset..];
            ushort flags = BinaryPrimitives.ReadUInt16LittleEndian(entry[2..]);
            ushort index = (ushort)(BinaryPrimitives.ReadUInt16LittleEndian(entry[4..]) & ~HiddenBit);
            ulong auxiliary = offset + BinaryPrimitives.ReadUInt32LittleEndian(entry[12..]);
            uint next = BinaryPrimitives.ReadUInt32LittleEndian(entry[16..]);
            if ((flags & 1) != 0)
            {
                _base.Add(index);
            }
            else if (auxiliary + 8 <= (ulong)table.Length)
            {
                AddName(index, BinaryPrimitives.ReadUInt32LittleEndian(table[(int)auxiliary..]), strings);
            }

            if (next == 0)
            {
                return;
            }

            offset += next;
        }
    }

    private void ReadNeeds(ReadOnlySpan<byte> table, ReadOnlySpan<byte> strings)
    {
        ulong offset = 0;
        int budget = MaxVersions;
        while (budget-- > 0 && offset + NeedSize <= (ulong)table.Length)
        {
            ReadOnlySpan<byte> entry = table[(int)offset..];
            int count = BinaryPrimitives.ReadUInt16LittleEndian(entry[2..]);
            ulong auxiliary = offset + BinaryPrimitives.ReadUInt32LittleEndian(entry[8..]);
            for (; count > 0 && budget-- > 0 && auxiliary + NeedAuxiliarySize <= (ulong)table.Length; count--)
            {
                ReadOnlySpan<byte> need = table[(int)auxiliary..];
                ushort index = (ushort)(BinaryPrimitives.ReadUInt16LittleEndian(need[6..]) & ~HiddenBit);
                AddName(index, BinaryPrimitives.ReadUInt32LittleEndian(need[8..]), strings);
                uint step = BinaryPrimitives.ReadUInt32LittleEndian(need[12..]);
                if (step == 0)
                {
                    break;
                }

                auxiliary += step;
            }

            uint next = BinaryPrimitives.ReadUInt32LittleEndian(entry[12..]);
            if (next == 0)
            {
                return;
            }

            offset += next;
        }
    }

    private void AddName(ushort index, uint nameOffset, ReadOnlySpan<byte> strings)
    {
        if (nameOffset >= (uint)strings.Length)
        {
            return;
        }

        ReadOnlySpan<byte> rest = strings[(int)nameOffset..];
        rest = rest[..Math.Min(rest.Length, 1024)];
        int end = rest.IndexOf((byte)0);
        if (end > 0)
        {
            _names.TryAdd(index, Encoding.UTF8.GetString(rest[..end]));
        }
    }
}
