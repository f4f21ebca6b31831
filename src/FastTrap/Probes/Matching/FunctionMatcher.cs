using FastTrap.Symbols;

namespace FastTrap.Probes;

/// <summary>Picks a module's functions by pattern: one name for each address.</summary>
internal static class FunctionMatcher
{
    /// <summary>Calls back with each function that matches, in order of addresses: its index, and the name it is to have.</summary>
    public static void ForEach(ModuleCode module, Glob pattern, bool useDemangled, Action<int, string> found, CancellationToken cancellationToken)
    {
        SymbolTable symbols = module.Symbols;
        List<int> indices = [];
        symbols.Match(pattern, indices, useDemangled);
        bool isExact = pattern.ExactText is not null;
        for (int i = 0; i < indices.Count;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            ulong address = symbols.GetAddress(indices[i]);
            int best = -1;
            for (; i < indices.Count && symbols.GetAddress(indices[i]) == address; i++)
            {
                bool isCold = (symbols.GetFlags(indices[i]) & SymbolFlags.ColdPart) != 0;
                if ((isExact || !isCold) && (best < 0 || IsBetterName(symbols.GetNameUtf8(indices[i]), symbols.GetNameUtf8(best))))
                {
                    best = indices[i];
                }
            }

            if (best >= 0)
            {
                found(best, symbols.GetName(best));
            }
        }
    }

    /// <summary>Of aliases, the one a person would say: fewer leading underscores, then shorter, then earlier in the alphabet.</summary>
    private static bool IsBetterName(ReadOnlySpan<byte> name, ReadOnlySpan<byte> than)
    {
        int order = Underscores(name).CompareTo(Underscores(than));
        order = order != 0 ? order : name.Length.CompareTo(than.Length);
        return (order != 0 ? order : name.SequenceCompareTo(than)) < 0;
    }

    private static int Underscores(ReadOnlySpan<byte> name)
    {
        // A mangled C++ name begins with _Z, which is no mark of an internal alias.
        int count = name.IndexOfAnyExcept((byte)'_');
        return name.StartsWith("_Z"u8) ? 0 : count < 0 ? name.Length : count;
    }
}
