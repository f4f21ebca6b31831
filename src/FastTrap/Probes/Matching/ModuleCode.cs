using FastTrap.Symbols;

namespace FastTrap.Probes;

/// <summary>A module as the matcher sees it: in a process, or a file by itself.</summary>
/// <param name="Name">The base name.</param>
/// <param name="Symbols">Its functions.</param>
/// <param name="Image">Its file; null for JIT code.</param>
/// <param name="LoadBias">What is added to a symbol's address.</param>
internal sealed record ModuleCode(string Name, SymbolTable Symbols, ModuleImage? Image, ulong LoadBias)
{
    /// <summary>A function's place, with its split part; no length when that is a guess.</summary>
    public FunctionExtent GetExtent(int index)
    {
        ulong start = Symbols.GetAddress(index);
        ulong length = Symbols.GetSize(index);
        bool isKnown = (Symbols.GetFlags(index) & SymbolFlags.SizeIsGuessed) == 0;
        if (!isKnown && Image is not null)
        {
            try
            {
                isKnown = Image.TryGetExtent(index, out start, out length);
            }
            catch (ElfFormatException)
            {
                // Without unwind tables the size stays unknown, and is refused as such where it is needed.
                isKnown = false;
            }
        }

        Symbols.TryGetColdPart(index, out ulong coldStart, out ulong coldLength);
        return new FunctionExtent(start + LoadBias, isKnown ? length : 0, coldLength == 0 ? 0 : coldStart + LoadBias, coldLength);
    }

    /// <summary>The extent of code that no symbol names, by its unwind range.</summary>
    public FunctionExtent GetExtentAt(ulong address)
    {
        int index = Symbols.FindAt(address - LoadBias);
        if (index >= 0 && (Symbols.GetFlags(index) & SymbolFlags.Ifunc) == 0)
        {
            return GetExtent(index);
        }

        return TryFindRange(address, out ulong start, out ulong length, out _) && start == address
            ? new FunctionExtent(address, length, 0, 0)
            : new FunctionExtent(address, 0, 0, 0);
    }

    /// <summary>The split part of a function which begins at an address, if no symbol names it and its unwind range says that it continues another.</summary>
    public FunctionExtent? FindContinuation(ulong address) =>
        Symbols.FindAt(address - LoadBias) < 0 && TryFindRange(address, out ulong start, out ulong length, out bool isContinuation) && isContinuation
            ? new FunctionExtent(start, length, 0, 0)
            : null;

    private bool TryFindRange(ulong address, out ulong start, out ulong length, out bool isContinuation)
    {
        start = length = 0;
        isContinuation = false;
        if (Image is null)
        {
            return false;
        }

        try
        {
            bool found = Image.Unwind.TryFindRange(address - LoadBias, out start, out length, out isContinuation);
            start += LoadBias;
            return found;
        }
        catch (ElfFormatException)
        {
            // As without unwind tables.
            return false;
        }
    }
}
