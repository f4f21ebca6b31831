using System.Text;

namespace FastTrap.Symbols;

/// <summary>
/// Collects symbols and makes a <see cref="SymbolTable"/> of them: sorted, without duplicates, names in one blob. One thread.
/// </summary>
internal sealed class SymbolTableBuilder(string path, ElfLimits limits)
{
    private readonly List<ReadOnlyMemory<byte>> _sources = [];
    private readonly List<string> _versions = [""];
    private readonly Dictionary<string, ushort> _versionIndices = [];
    private RawSymbol[] _symbols = [];
    private int _count;
    private long _nameBytes;

    /// <summary>Makes room for symbols that are about to come.</summary>
    public void Reserve(int count) => Array.Resize(ref _symbols, Math.Max(_symbols.Length, _count + Math.Min(count, limits.MaxSymbols)));

    /// <summary>
    /// Adds bytes that names are taken from; they must stay unchanged until <see cref="Build"/>. Returns the source's number.
    /// </summary>
    public byte AddSource(ReadOnlyMemory<byte> bytes)
    {
        _sources.Add(bytes);
        return checked((byte)(_sources.Count - 1));
    }

    /// <summary>The number of a version's name; 0 is no version.</summary>
    public ushort AddVersion(string? version)
    {
        if (string.IsNullOrEmpty(version))
        {
            return 0;
        }

        if (!_versionIndices.TryGetValue(version, out ushort index))
        {
            if (_versions.Count == ushort.MaxValue)
            {
                throw new ElfFormatException(ElfProblem.LimitExceeded, path, "too many symbol versions");
            }

            index = (ushort)_versions.Count;
            _versions.Add(version);
            _versionIndices.Add(version, index);
        }

        return index;
    }

    /// <summary>Adds a symbol.</summary>
    /// <exception cref="ElfFormatException">More symbols or more name bytes than the limits allow.</exception>
    public void Add(in RawSymbol symbol)
    {
        _nameBytes += symbol.NameLength + 1;
        if (_count == limits.MaxSymbols || _nameBytes > limits.MaxNameBytes)
        {
            throw new ElfFormatException(
                ElfProblem.LimitExceeded, path, $"more than {limits.MaxSymbols} symbols or {limits.MaxNameBytes} bytes of names");
        }

        if (_count == _symbols.Length)
        {
            Array.Resize(ref _symbols, Math.Max(256, _count * 2));
        }

        _symbols[_count++] = symbol;
    }

    /// <summary>Sorts, merges what is the same symbol in two tables, cuts guessed sizes at the next symbol, and packs.</summary>
    public SymbolTable Build()
    {
        Span<RawSymbol> symbols = _symbols.AsSpan(0, _count);
        int[] order = SortByAddress(symbols);
        int kept = MergeGroups(symbols, order);
        ReadOnlySpan<int> sorted = order.AsSpan(0, kept);
        CutGuessedSizes(symbols, sorted);

        long bytes = 0;
        foreach (int i in sorted)
        {
            bytes += symbols[i].NameLength + 1;
        }

        ulong[] addresses = new ulong[kept];
        uint[] sizes = new uint[kept];
        int[] nameOffsets = new int[kept + 1];
        ushort[] versions = new ushort[kept];
        SymbolFlags[] flags = new SymbolFlags[kept];
        int[] units = new int[kept];
        byte[] blob = new byte[bytes];
        int position = 0;
        for (int i = 0; i < kept; i++)
        {
            ref RawSymbol symbol = ref symbols[sorted[i]];
            addresses[i] = symbol.Address;
            sizes[i] = symbol.Size;
            versions[i] = symbol.Version;
            flags[i] = symbol.Flags;
            units[i] = symbol.Unit;
            nameOffsets[i] = position;
            Name(symbol).CopyTo(blob.AsSpan(position));

            // A zero byte follows each name, so that it can be handed to C as it stands.
            position += symbol.NameLength + 1;
        }

        nameOffsets[kept] = position;
        return new SymbolTable(addresses, sizes, nameOffsets, blob, versions, [.. _versions], flags, units);
    }

    /// <summary>Whether a name is that of a split-off part: <c>f.cold</c> or <c>f.cold.N</c>. Gives the length of <c>f</c>.</summary>
    public static bool IsColdName(ReadOnlySpan<byte> name, out int baseLength)
    {
        baseLength = name.LastIndexOf(".cold"u8);
        if (baseLength <= 0)
        {
            return false;
        }

        ReadOnlySpan<byte> rest = name[(baseLength + ".cold".Length)..];
        return rest.IsEmpty || (rest[0] == '.' && rest.Length > 1 && !rest[1..].ContainsAnyExceptInRange((byte)'0', (byte)'9'));
    }

    private static int[] SortByAddress(ReadOnlySpan<RawSymbol> symbols)
    {
        ulong[] keys = new ulong[symbols.Length];
        int[] order = new int[symbols.Length];
        for (int i = 0; i < order.Length; i++)
        {
            keys[i] = symbols[i].Address;
            order[i] = i;
        }

        Array.Sort(keys, order);
        return order;
    }

    private ReadOnlySpan<byte> Name(in RawSymbol symbol) => _sources[symbol.Source].Span.Slice(symbol.NameOffset, symbol.NameLength);

    private int MergeGroups(Span<RawSymbol> symbols, int[] order)
    {
        int kept = 0;
        int start = 0;
        RawSymbol[] all = _symbols;
        while (start < order.Length)
        {
            int end = start + 1;
            while (end < order.Length && symbols[order[end]].Address == symbols[order[start]].Address)
            {
                end++;
            }

            Span<int> group = order.AsSpan(start, end - start);
            if (group.Length > 1)
            {
                group.Sort((a, b) => CompareForMerge(all[a], all[b]));
                int unique = 1;
                for (int i = 1; i < group.Length; i++)
                {
                    if (!TryMerge(ref symbols[group[unique - 1]], symbols[group[i]]))
                    {
                        group[unique++] = group[i];
                    }
                }

                group = group[..unique];
                group.Sort((a, b) => CompareForPreference(all[a], all[b]));
            }

            group.CopyTo(order.AsSpan(kept));
            kept += group.Length;
            start = end;
        }

        return kept;
    }

    private int CompareForMerge(in RawSymbol a, in RawSymbol b)
    {
        int byName = Name(a).SequenceCompareTo(Name(b));
        return byName != 0 ? byName : a.Version.CompareTo(b.Version);
    }

    /// <summary>Unversioned names come before versioned ones, so a name that one table has without its version joins the next.</summary>
    private bool TryMerge(ref RawSymbol kept, in RawSymbol other)
    {
        if ((kept.Version != other.Version && kept.Version != 0) || !Name(kept).SequenceEqual(Name(other)))
        {
            return false;
        }

        SymbolFlags sizeFlag = kept.Flags & other.Flags & SymbolFlags.SizeIsGuessed;
        bool keptIsGuess = (kept.Flags & SymbolFlags.SizeIsGuessed) != 0;
        bool otherIsGuess = (other.Flags & SymbolFlags.SizeIsGuessed) != 0;
        kept.Size = keptIsGuess == otherIsGuess ? Math.Max(kept.Size, other.Size) : keptIsGuess ? other.Size : kept.Size;
        kept.Version = other.Version;
        kept.Unit = Math.Max(kept.Unit, other.Unit);
        kept.Flags = ((kept.Flags | other.Flags) & ~SymbolFlags.SizeIsGuessed) | sizeFlag;
        return true;
    }

    /// <summary>The name that people use comes first among aliases: global, then weak, few leading underscores, short.</summary>
    private int CompareForPreference(in RawSymbol a, in RawSymbol b)
    {
        int result = Rank(a.Flags).CompareTo(Rank(b.Flags));
        ReadOnlySpan<byte> nameA = Name(a);
        ReadOnlySpan<byte> nameB = Name(b);
        result = result != 0 ? result : Underscores(nameA).CompareTo(Underscores(nameB));
        result = result != 0 ? result : nameA.Length.CompareTo(nameB.Length);
        result = result != 0 ? result : nameA.SequenceCompareTo(nameB);
        result = result != 0 ? result : (b.Flags & SymbolFlags.DefaultVersion).CompareTo(a.Flags & SymbolFlags.DefaultVersion);
        return result != 0 ? result : a.Version.CompareTo(b.Version);

        static int Rank(SymbolFlags flags) => (flags & SymbolFlags.Global) != 0 ? 0 : (flags & SymbolFlags.Weak) != 0 ? 1 : 2;

        static int Underscores(ReadOnlySpan<byte> name)
        {
            int other = name.IndexOfAnyExcept((byte)'_');
            return other < 0 ? name.Length : other;
        }
    }

    private static void CutGuessedSizes(Span<RawSymbol> symbols, ReadOnlySpan<int> sorted)
    {
        ulong next = ulong.MaxValue;
        ulong current = ulong.MaxValue;
        for (int i = sorted.Length - 1; i >= 0; i--)
        {
            ref RawSymbol symbol = ref symbols[sorted[i]];
            if (symbol.Address != current)
            {
                next = current;
                current = symbol.Address;
            }

            if ((symbol.Flags & SymbolFlags.SizeIsGuessed) != 0)
            {
                symbol.Size = (uint)Math.Min(symbol.Size, next - symbol.Address);
            }
        }
    }

    /// <summary>Bytes as text, for messages and lists.</summary>
    internal static string Text(ReadOnlySpan<byte> name) => Encoding.UTF8.GetString(name);
}
