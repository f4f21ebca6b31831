using FastTrap.Native;
using FastTrap.Symbols;

namespace FastTrap.Control;

/// <summary>Finds <c>main</c> by its symbol. A program without one is found out by its C library's start (see <see cref="Rendezvous"/>).</summary>
internal static class MainFunction
{
    /// <summary>The address of main in the program that holds an address; 0 if no symbol says.</summary>
    public static ulong Find(IPlatform platform, int processId, ulong addressInProgram)
    {
        if (!ProcMaps.TryRead(platform, processId, out List<MemoryRegion> regions, out _))
        {
            return 0;
        }

        TargetReader reader = new(platform, processId);
        ModuleOpener opener = new(platform, processId, new SymbolCache(), reader.TryRead);
        MappedRange[] ranges =
        [
            .. regions.Select(r => new MappedRange(
                r.Start, r.End, r.FileOffset, r.IsExecutable, (r.Access & MemoryAccess.Write) != 0, r.Path, r.Inode, r.IsDeleted, r.Device)),
        ];
        ModuleMap map = ModuleMap.Create(ranges, opener);
        Module? program = map.Modules.FirstOrDefault(m => m.Ranges.Any(r => addressInProgram - r.Start < r.Length));
        if (program is null || !program.TryGetSymbols(out SymbolTable symbols, out _))
        {
            return 0;
        }

        int index = symbols.Find("main");
        return index < 0 ? 0 : symbols.GetAddress(index) + program.LoadBias;
    }
}
