namespace FastTrap.Symbols;

/// <summary>The demangled C++ names of a <see cref="SymbolTable"/>, made at once on first need and kept in one blob. Immutable.</summary>
internal sealed class DemangledNames
{
    // Results of this kind take long to make. Real programs have none, so a file with more than a few is hostile.
    private const int MaxOverlong = 16;

    private readonly byte[] _names;
    private readonly int[] _offsets;

    public DemangledNames(SymbolTable table)
    {
        _offsets = new int[table.Count + 1];
        MemoryStream names = new();
        int overlong = 0;
        if (Demangler.IsAvailable)
        {
            byte[] buffer = new byte[Demangler.MaxDemangledBytes];
            for (int i = 0; i < table.Count; i++)
            {
                _offsets[i] = (int)names.Length;
                int length = overlong > MaxOverlong ? 0 : Demangler.TryDemangle(table.GetNameUtf8(i), buffer);
                overlong += length < 0 ? 1 : 0;

                // Names which expand enormously must not fill the memory; the rest stays mangled.
                if (length > 0 && names.Length + length < MaxBytes)
                {
                    names.Write(buffer, 0, length);
                }
            }
        }

        _names = names.ToArray();
        _offsets[table.Count] = _names.Length;
    }

    private static int MaxBytes => 1 << 30;

    /// <summary>The demangled name as UTF-8; empty when the symbol keeps its plain name.</summary>
    public ReadOnlySpan<byte> Get(int index) => _names.AsSpan(_offsets[index], _offsets[index + 1] - _offsets[index]);

    /// <summary>
    /// Whether a demangled name matches: whole (<c>std::swap&lt;int&gt;(int&amp;, int&amp;)</c>), and for patterns without parentheses also
    /// without its parameters, with or without the return type that templates carry.
    /// </summary>
    public bool Matches(int index, Glob pattern, bool withParameters)
    {
        ReadOnlySpan<byte> name = Get(index);
        if (name.IsEmpty || !pattern.MayMatchPartOf(name))
        {
            return false;
        }

        if (pattern.IsMatch(name))
        {
            return true;
        }

        if (withParameters)
        {
            return false;
        }

        Demangler.FindBareName(name, out int start, out int end);
        return pattern.IsMatch(name[..end]) || (start > 0 && pattern.IsMatch(name[start..end]));
    }
}
