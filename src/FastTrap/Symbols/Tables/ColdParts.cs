namespace FastTrap.Symbols;

/// <summary>Finds by name which <c>f.cold</c> belongs to which <c>f</c>.</summary>
internal static class ColdParts
{
    /// <summary>Maps the address of each function that was split to the symbol of its cold part.</summary>
    public static Dictionary<ulong, int> Link(SymbolTable table)
    {
        Dictionary<ulong, int> result = [];
        for (int cold = 0; cold < table.Count; cold++)
        {
            if ((table.GetFlags(cold) & SymbolFlags.ColdPart) == 0)
            {
                continue;
            }

            ReadOnlySpan<byte> name = table.GetNameUtf8(cold);
            if (!SymbolTableBuilder.IsColdName(name, out int baseLength))
            {
                continue;
            }

            int owner = FindOwner(table, name[..baseLength], table.GetUnit(cold));
            if (owner >= 0)
            {
                result.TryAdd(table.GetAddress(owner), cold);
            }
        }

        return result;
    }

    /// <summary>
    /// Static functions of several source files may share a name, and each may have a cold part of that name with ".cold". A local function
    /// goes with the cold part of its own file, a global one with what no local one claims.
    /// </summary>
    private static int FindOwner(SymbolTable table, ReadOnlySpan<byte> name, int unit)
    {
        int global = -1;
        int other = -1;
        int others = 0;
        for (int i = table.FindNext(name, -1); i >= 0; i = table.FindNext(name, i))
        {
            if ((table.GetFlags(i) & (SymbolFlags.Global | SymbolFlags.Weak)) != 0)
            {
                global = i;
            }
            else if (table.GetUnit(i) == unit)
            {
                return i;
            }
            else
            {
                other = i;
                others++;
            }
        }

        // A hidden function is made local by the linker and leaves the group of its file, so a single one may be it.
        return global >= 0 ? global : others == 1 ? other : -1;
    }
}
