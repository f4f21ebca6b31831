namespace FastTrap.Symbols;

/// <summary>
/// What is known of one file, whatever processes map it: headers, symbols, unwind ranges, imports. Each part is read on first need, and a
/// failure to read it is kept as the result is. Any thread.
/// </summary>
/// <remarks>The file stays open as long as somebody holds the image: it may be deleted and still be needed.</remarks>
internal sealed class ModuleImage
{
    private readonly Lazy<SymbolTable> _symbols;
    private readonly Lazy<EhFrame> _unwind;
    private readonly Lazy<ElfImports> _imports;
    private readonly Lazy<Isa.X64.CodeFlow> _flow;

    /// <summary>Wraps a file; nothing is read yet.</summary>
    /// <param name="elf">The file.</param>
    /// <param name="debugFiles">Where to look for its separate debug file; null for nowhere.</param>
    public ModuleImage(ElfFile elf, DebugFileLocator? debugFiles = null)
    {
        Elf = elf;
        _symbols = new(() => ReadSymbols(debugFiles));
        _unwind = new(() => EhFrame.Read(elf));
        _imports = new(() => ElfImports.Read(elf));
        _flow = new(() => ModuleFlow.Read(this));
    }

    /// <summary>The file.</summary>
    public ElfFile Elf { get; }

    /// <summary>Its functions.</summary>
    /// <exception cref="ElfFormatException">The symbol tables are malformed; the same exception each time.</exception>
    public SymbolTable Symbols => _symbols.Value;

    /// <summary>Its unwind ranges.</summary>
    /// <exception cref="ElfFormatException">The unwind tables are malformed; the same exception each time.</exception>
    public EhFrame Unwind => _unwind.Value;

    /// <summary>The slots which the dynamic linker fills with function addresses.</summary>
    /// <exception cref="ElfFormatException">The relocation tables are malformed; the same exception each time.</exception>
    public ElfImports Imports => _imports.Value;

    /// <summary>Where control goes in its code, for x86-64; addresses are link-time ones.</summary>
    /// <exception cref="ElfFormatException">The file is malformed, or has no code; the same exception each time.</exception>
    public Isa.X64.CodeFlow Flow => _flow.Value;

    /// <summary>The separate debug file that was used, or null. Known once <see cref="Symbols"/> has been read.</summary>
    public string? DebugFilePath { get; private set; }

    /// <summary>Whether the file has no symbols but those that are exported, and no debug file was found either.</summary>
    public bool IsStripped => !Elf.TryGetSection(ElfSection.SymbolTable, out _) && _symbols.Value != null && DebugFilePath == null;

    /// <summary>
    /// The extent of a function. A guessed size is replaced by that of the unwind range which begins there, if one does; true then too.
    /// False when the size stays a guess.
    /// </summary>
    public bool TryGetExtent(int functionIndex, out ulong start, out ulong length)
    {
        start = Symbols.GetAddress(functionIndex);
        length = Symbols.GetSize(functionIndex);
        if ((Symbols.GetFlags(functionIndex) & SymbolFlags.SizeIsGuessed) == 0)
        {
            return true;
        }

        if (Unwind.TryFindRange(start, out ulong rangeStart, out ulong rangeLength, out _) && rangeStart == start)
        {
            length = rangeLength;
            return true;
        }

        return false;
    }

    private SymbolTable ReadSymbols(DebugFileLocator? debugFiles)
    {
        if (debugFiles == null || Elf.TryGetSection(ElfSection.SymbolTable, out _))
        {
            return ElfSymbolReader.Read(Elf);
        }

        using ElfFile? debug = debugFiles.Find(Elf);
        if (debug != null)
        {
            try
            {
                SymbolTable result = ElfSymbolReader.Read(Elf, debug);
                DebugFilePath = debug.Path;
                return result;
            }
            catch (ElfFormatException exception) when (exception.FilePath == debug.Path)
            {
                // A broken debug file must not cost the symbols which the program itself has.
                DebugFailure = exception;
            }
        }

        return ElfSymbolReader.Read(Elf);
    }

    /// <summary>Why a debug file that was found could not be used, or null.</summary>
    public ElfFormatException? DebugFailure { get; private set; }
}
