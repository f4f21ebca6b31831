using System.Buffers.Binary;
using System.Text;

namespace FastTrap.Usdt;

/// <summary>Reads the providers and probes of DOF, for the meta provider. Pure; any thread.</summary>
/// <remarks>
/// Hostile bytes give a <see cref="DofFormatException"/>; time and memory stay in proportion to their number, however often tables are
/// referred to. Source: dtrace_helper_provider_validate, dtrace_helper_provide_one.
/// </remarks>
internal static class DofReader
{
    private const int LongestProvider = 63, LongestFunction = 127, LongestName = 63, LongestType = 127;
    private const int ProviderSize1 = 40, ProviderSize2 = 44, ProbeSize1 = 40, ProbeSize2 = 48;
    
    /// <summary>How a provider says that it has no is-enabled offsets.</summary>
    private const uint NoSection = 0;

    private const int WorkPerByte = 32;
    private const int WorkAtLeast = 4096;

    /// <summary>All providers of a <c>.SUNW_dof</c> section, which holds one DOF object for each object file that was linked.</summary>
    /// <param name="section">The section's bytes.</param>
    /// <param name="placement">Where they are in the process.</param>
    /// <exception cref="DofFormatException">They are not as they must be.</exception>
    public static IReadOnlyList<DofProvider> ReadSection(ReadOnlySpan<byte> section, DofPlacement placement)
    {
        List<DofProvider> providers = [];
        int at = 0;
        while (at < section.Length)
        {
            ReadOnlySpan<byte> rest = section[at..];
            int length = DofFile.Measure(rest);
            providers.AddRange(Read(rest[..length], placement with { Address = unchecked(placement.Address + (ulong)at) }));
            int next = at + length;
            int gap = section[next..].IndexOfAnyExcept((byte)0);
            at = gap < 0 ? section.Length : next + gap;
        }

        return providers;
    }

    /// <summary>The providers of one DOF object.</summary>
    /// <param name="bytes">It begins with the first of them; what follows its end is not looked at.</param>
    /// <param name="placement">Where it is in the process.</param>
    /// <exception cref="DofFormatException">It is not as it must be.</exception>
    public static IReadOnlyList<DofProvider> Read(ReadOnlySpan<byte> bytes, DofPlacement placement)
    {
        DofFile file = DofFile.Open(bytes);
        DofRelocations.Apply(file, placement);
        List<DofProvider> providers = [];
        long work = ((long)file.Length * WorkPerByte) + WorkAtLeast;
        foreach (DofSection section in file.Sections)
        {
            if (section.Type == DofSectionType.Provider)
            {
                providers.Add(ReadProvider(file, section, ref work));
            }
        }

        return providers;
    }

    private static DofProvider ReadProvider(DofFile file, DofSection section, ref long work)
    {
        DofFile.Require(section.Size >= (file.Version == 1 ? ProviderSize1 : ProviderSize2), DofProblem.Truncated, section.Index, "it is shorter than a provider");
        DofFile.RequireAligned(section, 4);
        ReadOnlySpan<byte> fields = file.Bytes(section);
        DofSection strings = file.Get(UInt32(fields, 0), DofSectionType.StringTable, section.Index);
        DofSection probes = file.Get(UInt32(fields, 4), DofSectionType.Probes, section.Index);
        DofSection map = file.Get(UInt32(fields, 8), DofSectionType.ArgumentMap, section.Index);
        DofSection offsets = file.Get(UInt32(fields, 12), DofSectionType.Offsets, section.Index);
        DofSection isEnabled = default;
        if (file.Version > 1 && UInt32(fields, 40) is var reference && reference != NoSection)
        {
            isEnabled = file.Get(reference, DofSectionType.IsEnabledOffsets, section.Index);
            DofFile.RequireTable(isEnabled, sizeof(uint), 4);
            DofFile.Require(isEnabled.EntrySize == sizeof(uint), DofProblem.WrongEntrySize, isEnabled.Index, "entries are not four bytes long");
        }

        DofFile.RequireTable(probes, file.Version == 1 ? ProbeSize1 : ProbeSize2, 8);
        DofFile.RequireTable(map, 1, 1);
        DofFile.Require(map.EntrySize == 1, DofProblem.WrongEntrySize, map.Index, "entries are not one byte long");
        DofFile.RequireTable(offsets, sizeof(uint), 4);
        DofFile.Require(offsets.EntrySize == sizeof(uint), DofProblem.WrongEntrySize, offsets.Index, "entries are not four bytes long");

        ProbeTables tables = new(file, strings, probes, map, offsets, isEnabled);
        string name = tables.ReadName(UInt32(fields, 16), LongestProvider, ref work);
        DofProviderAttributes attributes = new(
            ReadAttribute(fields, 20, section.Index), ReadAttribute(fields, 24, section.Index), ReadAttribute(fields, 28, section.Index),
            ReadAttribute(fields, 32, section.Index), ReadAttribute(fields, 36, section.Index));
        DofProbe[] all = new DofProbe[probes.Count];
        for (int i = 0; i < all.Length; i++)
        {
            all[i] = tables.ReadProbe(i, ref work);
        }

        return new DofProvider(name, attributes, all);
    }

    private static DofAttribute ReadAttribute(ReadOnlySpan<byte> fields, int offset, int section)
    {
        uint value = UInt32(fields, offset);
        DofAttribute attribute = new((DofStability)(value >> 24), (DofStability)(byte)(value >> 16), (DofClass)(byte)(value >> 8));
        DofFile.Require(
            attribute.Name <= DofStability.Standard && attribute.Data <= DofStability.Standard && attribute.Class <= DofClass.Common,
            DofProblem.BadAttribute, section, $"the attribute {value:x8}");
        return attribute;
    }

    private static uint UInt32(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[offset..]);

    /// <summary>The tables that a provider's probes refer to.</summary>
    private readonly ref struct ProbeTables(DofFile file, DofSection strings, DofSection probes, DofSection map, DofSection offsets, DofSection isEnabled)
    {
        private readonly ReadOnlySpan<byte> _strings = file.Bytes(strings);
        private readonly ReadOnlySpan<byte> _probes = file.Bytes(probes);
        private readonly ReadOnlySpan<byte> _map = file.Bytes(map);

        public DofProbe ReadProbe(int index, ref long work)
        {
            ReadOnlySpan<byte> fields = _probes[(index * (int)probes.EntrySize)..];
            ulong address = BinaryPrimitives.ReadUInt64LittleEndian(fields);
            uint mapIndex = UInt32(fields, 24);
            byte nativeCount = fields[32];
            byte translatedCount = fields[33];
            Spend(ref work, 64);
            string function = ReadText(UInt32(fields, 8), LongestFunction, ref work, out _);
            string name = ReadName(UInt32(fields, 12), LongestName, ref work);
            ulong[] addresses = ReadOffsets(offsets, UInt32(fields, 28), BinaryPrimitives.ReadUInt16LittleEndian(fields[34..]), address, ref work);
            ulong[] isEnabledAddresses = [];
            if (file.Version > 1)
            {
                uint first = UInt32(fields, 36);
                ushort count = BinaryPrimitives.ReadUInt16LittleEndian(fields[40..]);
                if (isEnabled.Type == DofSectionType.None)
                {
                    DofFile.Require(first == 0 && count == 0, DofProblem.BadIndex, probes.Index, $"probe {index} has is-enabled offsets, but there is no table of them");
                }
                else
                {
                    isEnabledAddresses = ReadOffsets(isEnabled, first, count, address, ref work);
                }
            }

            DofFile.Require(addresses.Length + isEnabledAddresses.Length > 0, DofProblem.BadOffset, probes.Index, $"probe {index} is nowhere");
            DofFile.Require(
                mapIndex <= (uint)_map.Length && translatedCount <= (uint)_map.Length - mapIndex, DofProblem.BadIndex, probes.Index, $"the arguments of probe {index} reach past their table");
            string[] natives = ReadTypes(UInt32(fields, 16), nativeCount, ref work);
            string[] translated = ReadTypes(UInt32(fields, 20), translatedCount, ref work);
            DofArgument[] arguments = new DofArgument[translatedCount];
            for (int i = 0; i < arguments.Length; i++)
            {
                byte native = _map[(int)mapIndex + i];
                DofFile.Require(native < nativeCount, DofProblem.BadIndex, map.Index, $"argument {i} of probe {index} stands for argument {native}, of which there are {nativeCount}");
                arguments[i] = new DofArgument(i, natives[native], translated[i], native);
            }

            return new DofProbe(function, name, address, addresses, isEnabledAddresses, natives, arguments);
        }

        /// <summary>A name of a provider or a probe, by the rules of dtrace_badname.</summary>
        public string ReadName(uint offset, int longest, ref long work)
        {
            string name = ReadText(offset, longest, ref work, out _);
            bool isGood = name.Length > 0 && !char.IsAsciiDigit(name[0]);
            foreach (char c in name)
            {
                isGood &= char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' or '`';
            }

            DofFile.Require(isGood, DofProblem.BadName, strings.Index, $"the string at {offset} is no name");
            return name;
        }

        private static void Spend(ref long work, int amount)
        {
            work -= amount;
            DofFile.Require(work >= 0, DofProblem.LimitExceeded, -1, "its tables are referred to again and again");
        }

        private ulong[] ReadOffsets(DofSection table, uint first, ushort count, ulong address, ref long work)
        {
            DofFile.Require(first <= (uint)table.Count && count <= (uint)table.Count - first, DofProblem.BadIndex, table.Index, "the offsets of a probe reach past their table");
            Spend(ref work, count * 16);
            ReadOnlySpan<byte> values = file.Bytes(table).Slice((int)first * sizeof(uint), count * sizeof(uint));
            ulong[] addresses = new ulong[count];
            for (int i = 0; i < addresses.Length; i++)
            {
                addresses[i] = unchecked(address + UInt32(values, i * sizeof(uint)));
                DofFile.Require(addresses[i] >= address, DofProblem.BadOffset, table.Index, "an offset leads past the end of the address space");
            }

            Array.Sort(addresses);
            for (int i = 1; i < addresses.Length; i++)
            {
                DofFile.Require(addresses[i] != addresses[i - 1], DofProblem.BadOffset, table.Index, "a probe has the same offset twice");
            }

            return addresses;
        }

        /// <summary>Type names, one after another in the string table.</summary>
        private string[] ReadTypes(uint offset, byte count, ref long work)
        {
            if (count == 0)
            {
                return [];
            }

            string[] types = new string[count];
            for (int i = 0; i < types.Length; i++)
            {
                types[i] = ReadText(offset, LongestType, ref work, out int length);
                offset += (uint)length + 1;
            }

            return types;
        }

        private string ReadText(uint offset, int longest, ref long work, out int length)
        {
            DofFile.Require(offset < (uint)_strings.Length, DofProblem.BadString, strings.Index, $"a string at {offset} begins outside of it");

            // The table ends with a zero.
            ReadOnlySpan<byte> rest = _strings[(int)offset..];
            length = rest[..Math.Min(rest.Length, longest + 1)].IndexOf((byte)0);
            DofFile.Require(length >= 0, DofProblem.BadString, strings.Index, $"the string at {offset} is longer than {longest}");
            Spend(ref work, (2 * length) + 32);
            ReadOnlySpan<byte> text = rest[..length];
            DofFile.Require(text.IndexOfAnyInRange((byte)0, (byte)0x1f) < 0 && !text.Contains((byte)0x7f), DofProblem.BadString, strings.Index, $"the string at {offset} holds control characters");
            return Encoding.UTF8.GetString(text);
        }
    }
}
