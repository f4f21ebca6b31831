using System.Text;

namespace FastTrap.Symbols;

/// <summary>
/// The functions of a module, sorted by link-time address (by target address for JIT code). Symbols are numbered 0 to <see
/// cref="Count"/>-1;
/// aliases at one address are neighbours, the name that people use first.
/// </summary>
/// <remarks>
/// Immutable but for indices that are built on first need under a lazy lock; any thread. No string is kept for any symbol.
/// </remarks>
internal sealed class SymbolTable
{
    private readonly ulong[] _addresses;
    private readonly uint[] _sizes;
    private readonly int[] _nameOffsets;
    private readonly byte[] _names;
    private readonly ushort[] _versions;
    private readonly string[] _versionNames;
    private readonly SymbolFlags[] _flags;
    private readonly int[] _units;
    private readonly int[] _enclosing;
    private readonly Lazy<SymbolNameIndex> _index;
    private readonly Lazy<Dictionary<ulong, int>> _coldParts;
    private readonly Lazy<DemangledNames> _demangled;

    internal SymbolTable(
        ulong[] addresses, uint[] sizes, int[] nameOffsets, byte[] names, ushort[] versions, string[] versionNames,
        SymbolFlags[] flags, int[] units)
    {
        _addresses = addresses;
        _sizes = sizes;
        _nameOffsets = nameOffsets;
        _names = names;
        _versions = versions;
        _versionNames = versionNames;
        _flags = flags;
        _units = units;
        _enclosing = LinkEnclosing();
        _index = new(() => new SymbolNameIndex(this));
        _coldParts = new(() => ColdParts.Link(this));
        _demangled = new(() => new DemangledNames(this));
    }

    /// <summary>A table of nothing.</summary>
    public static SymbolTable Empty { get; } = new([], [], [0], [], [], [""], [], []);

    /// <summary>How many symbols there are.</summary>
    public int Count => _addresses.Length;

    /// <summary>The first address.</summary>
    public ulong GetAddress(int index) => _addresses[index];

    /// <summary>Bytes of code; see <see cref="SymbolFlags.SizeIsGuessed"/>.</summary>
    public ulong GetSize(int index) => _sizes[index];

    /// <summary>What else is known.</summary>
    public SymbolFlags GetFlags(int index) => _flags[index];

    /// <summary>The name without version as UTF-8; in memory a zero byte follows it.</summary>
    public ReadOnlySpan<byte> GetNameUtf8(int index) =>
        _names.AsSpan(_nameOffsets[index], _nameOffsets[index + 1] - _nameOffsets[index] - 1);

    /// <summary>The name without version.</summary>
    public string GetName(int index) => Encoding.UTF8.GetString(GetNameUtf8(index));

    /// <summary>The version, or an empty string.</summary>
    public string GetVersion(int index) => _versionNames[_versions[index]];

    /// <summary>The name with its version: <c>memcpy@@GLIBC_2.14</c> for the default one, <c>memcpy@GLIBC_2.2.5</c> for others.</summary>
    public string GetFullName(int index)
    {
        string version = GetVersion(index);
        string name = GetName(index);
        return version.Length == 0 ? name : $"{name}{((_flags[index] & SymbolFlags.DefaultVersion) != 0 ? "@@" : "@")}{version}";
    }

    /// <summary>The C++ name with parameters, or the plain name when it is not mangled or cannot be demangled.</summary>
    public string GetDemangledName(int index)
    {
        ReadOnlySpan<byte> demangled = _demangled.Value.Get(index);
        return demangled.IsEmpty ? GetName(index) : Encoding.UTF8.GetString(demangled);
    }

    /// <summary>The function which contains an address, the innermost one if some do; -1 if none does.</summary>
    public int FindContaining(ulong address)
    {
        int index = LastAtOrBelow(address);
        while (index >= 0 && address - _addresses[index] >= _sizes[index])
        {
            index = _enclosing[index];
        }

        return index < 0 ? -1 : FirstAlias(index, address);
    }

    /// <summary>The first alias of the function that begins at an address; -1 if none does.</summary>
    public int FindAt(ulong address)
    {
        int index = Array.BinarySearch(_addresses, address);
        return index < 0 ? -1 : GetAliases(index).First;
    }

    /// <summary>The range of symbols at one address to which a symbol belongs.</summary>
    public (int First, int Count) GetAliases(int index)
    {
        int first = index;
        int last = index;
        while (first > 0 && _addresses[first - 1] == _addresses[index])
        {
            first--;
        }

        while (last + 1 < Count && _addresses[last + 1] == _addresses[index])
        {
            last++;
        }

        return (first, last - first + 1);
    }

    /// <summary>The first symbol of a name, or -1. A name may carry a version: <c>name@VERSION</c> or <c>name@@VERSION</c>.</summary>
    public int Find(string name)
    {
        int plain = FindNext(Encoding.UTF8.GetBytes(name), -1);
        return plain >= 0 ? plain : FindVersioned(name, -1);
    }

    /// <summary>Adds all symbols of a name, with or without version, to a list. Returns how many there were.</summary>
    public int FindAll(string name, List<int> results)
    {
        int before = results.Count;
        byte[] bytes = Encoding.UTF8.GetBytes(name);
        for (int index = FindNext(bytes, -1); index >= 0; index = FindNext(bytes, index))
        {
            results.Add(index);
        }

        for (int index = FindVersioned(name, -1); index >= 0; index = FindVersioned(name, index))
        {
            results.Add(index);
        }

        return results.Count - before;
    }

    /// <summary>
    /// Adds all symbols whose name matches a pattern to a list, in address order. Returns how many there were.
    /// With <paramref name="useDemangled"/> C++ names are matched as people write them, see <see cref="DemangledNames.Matches"/>; a pattern
    /// with <c>@</c> is matched against the name with its version.
    /// </summary>
    public int Match(Glob pattern, List<int> results, bool useDemangled = false)
    {
        int before = results.Count;
        bool withVersion = pattern.Text.Contains('@', StringComparison.Ordinal);
        if (pattern.ExactText is { } exact && !useDemangled)
        {
            FindAll(exact, results);
            results.Sort(before, results.Count - before, null);
            return results.Count - before;
        }

        DemangledNames? demangled = useDemangled ? _demangled.Value : null;
        bool withParameters = pattern.Text.Contains('(', StringComparison.Ordinal);
        for (int i = 0; i < _addresses.Length; i++)
        {
            if (pattern.IsMatch(GetNameUtf8(i))
                || (withVersion && _versions[i] != 0 && pattern.IsMatch(GetFullName(i)))
                || (demangled != null && demangled.Matches(i, pattern, withParameters)))
            {
                results.Add(i);
            }
        }

        return results.Count - before;
    }

    /// <summary>The rarely run part which the compiler moved out of a function, if a symbol names it.</summary>
    public bool TryGetColdPart(int functionIndex, out ulong start, out ulong length)
    {
        if ((_flags[functionIndex] & SymbolFlags.ColdPart) == 0 && _coldParts.Value.TryGetValue(_addresses[functionIndex], out int cold))
        {
            start = _addresses[cold];
            length = _sizes[cold];
            return true;
        }

        start = 0;
        length = 0;
        return false;
    }

    /// <summary>The source file in whose group of local symbols a symbol stands; 0 for symbols of no file.</summary>
    internal int GetUnit(int index) => _units[index];

    /// <summary>The next symbol after another with exactly this UTF-8 name, or -1; begin with -1.</summary>
    internal int FindNext(ReadOnlySpan<byte> name, int after)
    {
        SymbolNameIndex index = _index.Value;
        int candidate = after < 0 ? index.First(name) : index.Next(after);
        while (candidate >= 0 && !GetNameUtf8(candidate).SequenceEqual(name))
        {
            candidate = index.Next(candidate);
        }

        return candidate;
    }

    private int FindVersioned(string name, int after)
    {
        int at = name.IndexOf('@', StringComparison.Ordinal);
        if (at <= 0)
        {
            return -1;
        }

        byte[] plain = Encoding.UTF8.GetBytes(name[..at]);
        int index = FindNext(plain, after);
        while (index >= 0 && (_versions[index] == 0 || GetFullName(index) != name))
        {
            index = FindNext(plain, index);
        }

        return index;
    }

    private int LastAtOrBelow(ulong address)
    {
        int low = 0;
        int high = _addresses.Length;
        while (low < high)
        {
            int middle = low + ((high - low) / 2);
            if (_addresses[middle] <= address)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low - 1;
    }

    private int FirstAlias(int index, ulong address)
    {
        while (index > 0 && _addresses[index - 1] == _addresses[index] && address - _addresses[index - 1] < _sizes[index - 1])
        {
            index--;
        }

        return index;
    }

    /// <summary>
    /// For each symbol the nearest earlier one that reaches beyond its start, so that a search for the container skips what has ended.
    /// </summary>
    private int[] LinkEnclosing()
    {
        int[] enclosing = new int[_addresses.Length];
        for (int i = 0; i < enclosing.Length; i++)
        {
            int candidate = i - 1;
            while (candidate >= 0 && _addresses[i] - _addresses[candidate] >= _sizes[candidate])
            {
                candidate = enclosing[candidate];
            }

            enclosing[i] = candidate;
        }

        return enclosing;
    }
}
