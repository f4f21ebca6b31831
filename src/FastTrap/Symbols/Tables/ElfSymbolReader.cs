using System.Buffers;
using System.Buffers.Binary;

namespace FastTrap.Symbols;

/// <summary>Reads the function symbols of an ELF file, and of its separate debug file, into a <see cref="SymbolTable"/>.</summary>
internal static class ElfSymbolReader
{
    private const int SymbolSize = 24;
    private const ushort FirstReservedSection = 0xff00;
    private const ushort ExtendedSection = 0xffff;

    /// <summary>Reads both symbol tables.</summary>
    /// <param name="elf">The file whose code is meant.</param>
    /// <param name="debug">Its separate debug file, if one was found.</param>
    /// <exception cref="ElfFormatException">A table is malformed, or larger than the limits.</exception>
    public static SymbolTable Read(ElfFile elf, ElfFile? debug = null)
    {
        SymbolTableBuilder builder = new(elf.Path, elf.Limits);
        List<byte[]> rented = [];
        try
        {
            if (elf.TryGetSection(ElfSection.SymbolTable, out ElfSection table))
            {
                ReadTable(elf, elf, table, builder, rented);
            }

            if (debug != null && debug.TryGetSection(ElfSection.SymbolTable, out table))
            {
                ReadTable(elf, debug, table, builder, rented);
            }

            ReadDynamicTable(elf, builder, rented);
            return builder.Build();
        }
        finally
        {
            foreach (byte[] buffer in rented)
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
    }

    private static void ReadTable(ElfFile elf, ElfFile holder, in ElfSection table, SymbolTableBuilder builder, List<byte[]> rented)
    {
        if (table.Link >= (uint)holder.Sections.Length)
        {
            throw holder.Fail(ElfProblem.Malformed, "the symbol table names no string table");
        }

        ElfSection stringSection = holder.Sections[(int)table.Link];
        ReadOnlyMemory<byte> strings = Rent(holder, stringSection.FileOffset, stringSection.Size, "the string table", rented);
        ReadOnlyMemory<byte> symbols = Rent(holder, table.FileOffset, table.Size, "the symbol table", rented);
        Collect(elf, symbols.Span, strings, null, builder);
    }

    private static void ReadDynamicTable(ElfFile elf, SymbolTableBuilder builder, List<byte[]> rented)
    {
        if (DynamicSymbols.TryLocate(elf, out DynamicSymbols located))
        {
            ReadOnlyMemory<byte> strings = Rent(elf, located.StringsOffset, located.StringsSize, "the dynamic string table", rented);
            ReadOnlyMemory<byte> symbols = Rent(
                elf, located.SymbolsOffset, (ulong)located.Count * SymbolSize, "the dynamic symbol table", rented);
            Collect(elf, symbols.Span, strings, ElfVersions.Read(elf, located.Count, strings.Span), builder);
        }
    }

    private static ReadOnlyMemory<byte> Rent(ElfFile elf, ulong offset, ulong size, string what, List<byte[]> rented)
    {
        int length = elf.CheckRange(offset, size, what);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(length);
        rented.Add(buffer);
        elf.ReadExactly(offset, buffer.AsSpan(0, length), what);
        return buffer.AsMemory(0, length);
    }

    private static void Collect(
        ElfFile elf, ReadOnlySpan<byte> table, ReadOnlyMemory<byte> strings, ElfVersions? versions, SymbolTableBuilder builder)
    {
        ReadOnlySpan<byte> names = strings.Span;
        byte source = builder.AddSource(strings);
        builder.Reserve(table.Length / SymbolSize);
        bool isDynamic = versions != null;
        CodeSections sections = new(elf);
        int unit = 0;
        int overlong = 0;
        for (int i = 0; (i + 1) * SymbolSize <= table.Length; i++)
        {
            ReadOnlySpan<byte> entry = table.Slice(i * SymbolSize, SymbolSize);
            int type = entry[4] & 15;
            int binding = entry[4] >> 4;
            if (type == 4)
            {
                // STT_FILE opens the group of a source file's local symbols.
                unit = i + 1;
                continue;
            }

            ulong address = BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]);
            ulong size = BinaryPrimitives.ReadUInt64LittleEndian(entry[16..]);
            ushort sectionIndex = BinaryPrimitives.ReadUInt16LittleEndian(entry[6..]);
            bool isDefined = sectionIndex != 0 && (sectionIndex < FirstReservedSection || sectionIndex == ExtendedSection);
            bool isFunction = type is 2 or 10 || (type == 0 && binding != 0 && size != 0);
            if (!isDefined || !isFunction || !TryGetRoom(elf, sections, address, type == 0, out ulong room))
            {
                continue;
            }

            int nameOffset = (int)Math.Min(BinaryPrimitives.ReadUInt32LittleEndian(entry), (uint)names.Length);
            ReadOnlySpan<byte> name = names[nameOffset..];
            int length = name[..Math.Min(name.Length, elf.Limits.MaxNameLength)].IndexOf((byte)0);
            if (length < 0)
            {
                if (++overlong > elf.Limits.MaxOverlongNames)
                {
                    throw elf.Fail(ElfProblem.LimitExceeded, "too many symbols with names that are too long or have no end");
                }

                continue;
            }

            if (length == 0)
            {
                continue;
            }

            RawSymbol symbol = new()
            {
                Address = address,
                Size = (uint)Math.Min(size == 0 ? room : Math.Min(size, room), uint.MaxValue),
                Source = source,
                NameOffset = nameOffset,
                NameLength = length,
                Unit = binding == 0 ? unit : 0,
                Flags = FlagsOf(type, binding, size, isDynamic),
            };
            name = name[..length];
            if (versions != null)
            {
                symbol.Version = builder.AddVersion(versions.Get(i, out bool isDefault));
                symbol.Flags |= isDefault ? SymbolFlags.DefaultVersion : 0;
            }
            else
            {
                SplitVersion(name, ref symbol, builder);
            }

            symbol.Flags |= SymbolTableBuilder.IsColdName(name, out _) ? SymbolFlags.ColdPart : 0;
            builder.Add(symbol);
        }
    }

    /// <summary>
    /// How many bytes of code can follow an address: to the end of its section, or of its segment where there are no sections.
    /// </summary>
    private static bool TryGetRoom(ElfFile elf, CodeSections sections, ulong address, bool needsCodeSection, out ulong room)
    {
        room = 0;
        if (!elf.TryGetExecutableSegment(address, out ElfSegment segment))
        {
            return false;
        }

        room = segment.MemorySize - (address - segment.Address);
        if (sections.TryFind(address, out ElfSection section))
        {
            room = Math.Min(room, section.Size - (address - section.Address));
            return true;
        }

        return !needsCodeSection || elf.Sections.IsEmpty;
    }

    private static SymbolFlags FlagsOf(int type, int binding, ulong size, bool isDynamic) =>
        (binding switch { 0 => SymbolFlags.None, 2 => SymbolFlags.Weak, _ => SymbolFlags.Global })
        | (type == 10 ? SymbolFlags.Ifunc : 0)
        | (type == 0 ? SymbolFlags.NoType : 0)
        | (size == 0 ? SymbolFlags.SizeIsGuessed : 0)
        | (isDynamic ? SymbolFlags.Dynamic : 0);

    /// <summary>Linkers write versions into the names of .symtab: <c>memcpy@@GLIBC_2.14</c>.</summary>
    private static void SplitVersion(ReadOnlySpan<byte> name, ref RawSymbol symbol, SymbolTableBuilder builder)
    {
        int at = name.IndexOf((byte)'@');
        if (at <= 0)
        {
            return;
        }

        bool isDefault = at + 1 < name.Length && name[at + 1] == '@';
        ReadOnlySpan<byte> version = name[(at + (isDefault ? 2 : 1))..];
        symbol.NameLength = at;
        symbol.Version = builder.AddVersion(SymbolTableBuilder.Text(version));
        symbol.Flags |= isDefault && !version.IsEmpty ? SymbolFlags.DefaultVersion : 0;
    }
}
