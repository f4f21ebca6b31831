using FastTrap.Symbols;

namespace FastTrap.Usdt;

/// <summary>
/// Resolves the symbols of argument strings to addresses in one loaded file. One thread.
/// </summary>
/// <param name="elf">The file.</param>
/// <param name="loadBias">What is added to its addresses.</param>
internal sealed class UsdtSymbols(ElfFile elf, ulong loadBias)
{
    /// <summary>Each look-up passes over the file's tables: hostile files shall not ask for many.</summary>
    private const int MaximumSymbols = 1024;

    private readonly Dictionary<string, (ulong Value, bool IsThreadLocal)?> _known = [];

    /// <summary>Finds a variable or a function. Its address is the target's.</summary>
    public bool TryGetAddress(string name, out ulong address)
    {
        address = 0;
        if (Find(name) is not { IsThreadLocal: false } found)
        {
            return false;
        }

        address = found.Value + loadBias;
        return true;
    }

    /// <summary>Finds a thread-local variable's place below the thread pointer (x86-64), which only a program knows of itself, not a library.</summary>
    public bool TryGetThreadOffset(string name, out ulong offset)
    {
        offset = 0;
        if ((elf.Type != ElfType.Executable && !elf.IsPie) || Find(name) is not { IsThreadLocal: true } found)
        {
            return false;
        }

        foreach (ElfSegment segment in elf.Segments)
        {
            if (segment.Type == ElfSegment.ThreadLocal && System.Numerics.BitOperations.IsPow2(segment.Alignment))
            {
                offset = found.Value - ((segment.MemorySize + segment.Alignment - 1) & ~(segment.Alignment - 1));
                return true;
            }
        }

        return false;
    }

    private (ulong Value, bool IsThreadLocal)? Find(string name)
    {
        if (!_known.TryGetValue(name, out (ulong, bool)? found) && _known.Count < MaximumSymbols)
        {
            try
            {
                found = ElfSymbolLookup.TryFind(elf, name, out ulong value, out bool isThreadLocal) ? (value, isThreadLocal) : null;
            }
            catch (ElfFormatException)
            {
                // Symbols are a help here: without them the argument is unreadable, with that reason.
                found = null;
            }

            _known.Add(name, found);
        }

        return found;
    }
}
