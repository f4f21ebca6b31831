using System.Buffers.Binary;

namespace FastTrap.Symbols;

/// <summary>
/// Finds which implementation of an IFUNC is in use. The resolver ran when the program was loaded, and its result stands in slots which
/// relocations name: of the module itself (IRELATIVE) and of the modules which import the function (JUMP_SLOT, GLOB_DAT).
/// </summary>
internal static class IfuncResolver
{
    private const int SlotBytes = 8;

    /// <summary>Adds the target addresses of the implementations in use, each once. Returns how many were found.</summary>
    /// <param name="module">The module which defines the function.</param>
    /// <param name="functionIndex">The symbol, which has <see cref="SymbolFlags.Ifunc"/>.</param>
    /// <param name="modules">All modules of the process.</param>
    /// <param name="readMemory">Reads the target.</param>
    /// <param name="implementations">Gets the addresses.</param>
    public static int FindImplementations(
        Module module, int functionIndex, IReadOnlyList<Module> modules, ReadTargetMemory readMemory, List<ulong> implementations)
    {
        int before = implementations.Count;
        if (!module.TryGetImage(out ModuleImage image, out _) || !module.TryGetSymbols(out SymbolTable symbols, out _))
        {
            return 0;
        }

        ulong resolver = symbols.GetAddress(functionIndex);
        foreach (Module importer in modules)
        {
            if (!TryGetImports(importer, out ElfImports imports))
            {
                continue;
            }

            foreach (ElfImport import in imports.Entries)
            {
                bool isMeant = import.NameOffset < 0
                    ? ReferenceEquals(importer, module) && import.ResolverAddress == resolver
                    : IsImportOf(imports, import, symbols, resolver);
                if (isMeant && TryReadSlot(importer, import, readMemory, out ulong value)
                    && IsImplementation(module, image, symbols, resolver, value) && !implementations.Contains(value))
                {
                    implementations.Add(value);
                }
            }
        }

        return implementations.Count - before;
    }

    private static bool TryGetImports(Module module, out ElfImports imports)
    {
        imports = null!;
        if (module.IsJit || !module.TryGetImage(out ModuleImage image, out _))
        {
            return false;
        }

        try
        {
            imports = image.Imports;
            return true;
        }
        catch (ElfFormatException)
        {
            // Slots of a module with broken tables are unknown; other modules' slots tell the same.
            return false;
        }
    }

    private static bool IsImportOf(ElfImports imports, in ElfImport import, SymbolTable symbols, ulong resolver)
    {
        ReadOnlySpan<byte> name = imports.Name(import);
        for (int i = symbols.FindNext(name, -1); i >= 0; i = symbols.FindNext(name, i))
        {
            if (symbols.GetAddress(i) == resolver && (symbols.GetFlags(i) & SymbolFlags.Ifunc) != 0
                && (import.Version == null || symbols.GetVersion(i).Length == 0 || symbols.GetVersion(i) == import.Version))
            {
                return true;
            }
        }

        return false;
    }

    private static bool TryReadSlot(Module module, in ElfImport import, ReadTargetMemory readMemory, out ulong value)
    {
        Span<byte> slot = stackalloc byte[SlotBytes];
        bool isRead = readMemory(unchecked(import.SlotAddress + module.LoadBias), slot);
        value = BinaryPrimitives.ReadUInt64LittleEndian(slot);
        return isRead;
    }

    /// <summary>
    /// A slot that is not bound yet points into a linkage table, and one that is bound elsewhere (an interposed function) out of the
    /// module.
    /// </summary>
    private static bool IsImplementation(Module module, ModuleImage image, SymbolTable symbols, ulong resolver, ulong value)
    {
        ulong address = unchecked(value - module.LoadBias);
        if (!module.ContainsCode(value) || address == resolver)
        {
            return false;
        }

        foreach (ElfSection section in image.Elf.Sections)
        {
            if (section.IsExecutable && section.Contains(address) && image.Elf.SectionName(section).StartsWith(".plt"u8))
            {
                return false;
            }
        }

        return !image.Elf.Sections.IsEmpty || symbols.FindAt(address) >= 0;
    }
}
