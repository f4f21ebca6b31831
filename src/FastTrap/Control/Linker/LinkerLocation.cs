using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>
/// Where a program and its run-time linker tell debuggers what is loaded (struct r_debug of link.h), found at any time from the exec on.
/// </summary>
/// <remarks>
/// A dynamic program's DT_DEBUG has the address of r_debug once its linker has started; until then the linker's own dynamic symbols tell
/// (<c>_r_debug</c> and <c>_dl_debug_state</c> of glibc, <c>_dl_debug_addr</c> and <c>_dl_debug_state</c> of musl). A program started by naming the linker
/// (<c>ld.so ./prog</c>) is, to the kernel, the linker. A static program has none of it; a static glibc program that is position-independent fills its
/// DT_DEBUG nevertheless. Source: dt_proc.c, dt_proc_attach, and librtld_db.
/// </remarks>
internal sealed class LinkerLocation
{
    private readonly IPlatform _platform;

    private LinkerLocation(IPlatform platform, in Auxv auxv)
    {
        _platform = platform;
        Auxv = auxv;
    }

    public Auxv Auxv { get; }

    /// <summary>The program that the kernel started; null if its headers cannot be read.</summary>
    public LoadedElf? Program { get; private set; }

    /// <summary>The linker, or null.</summary>
    public LoadedElf? Linker { get; private set; }

    /// <summary>Whether the kernel started the linker, which was told to load the program.</summary>
    public bool IsLinkerStarted { get; private set; }

    /// <summary>Whether it is musl's: one report at the start, and constructors that are run by the program's own start-up code.</summary>
    public bool IsMusl => _debugPointer != 0;

    /// <summary>The function that is called at each change, by the linker's symbols; 0 if they do not tell.</summary>
    public ulong StateFunction { get; private set; }

    private ulong _debugSymbol;
    private ulong _debugPointer;

    /// <summary>Looks. Never fails: what is not found is 0.</summary>
    public static LinkerLocation Find(IPlatform platform, int processId)
    {
        TargetReader reader = new(platform, processId);
        _ = Auxv.TryRead(platform, processId, out Auxv auxv, out _);
        LinkerLocation location = new(platform, auxv);

        // The program headers follow the ELF header in all that linkers make.
        if (auxv.ProgramHeaders > 64 && LoadedElf.TryRead(reader, auxv.ProgramHeaders - 64, out LoadedElf program))
        {
            location.Program = program;
        }

        if (LoadedElf.TryRead(reader, auxv.Base, out LoadedElf linker))
        {
            location.TakeLinker(linker);
        }
        else if (auxv.Base == 0 && location.Program is { IsDynamic: true, HasInterpreter: false } itself)
        {
            location.TakeLinker(itself);
            location.IsLinkerStarted = location.Linker is not null;
        }

        return location;
    }

    /// <summary>Where r_debug is now, as the process or one of its threads sees it; 0 if there is none (yet).</summary>
    public ulong FindDebug(int id)
    {
        TargetReader reader = new(_platform, id);
        if (Program is { DebugSlot: not 0 } program && reader.TryReadWord(program.DebugSlot, out ulong debug) && debug != 0)
        {
            return debug;
        }

        return _debugPointer != 0 && reader.TryReadWord(_debugPointer, out debug) ? debug : _debugSymbol;
    }

    private void TakeLinker(LoadedElf elf)
    {
        StateFunction = First(elf.Find("_dl_debug_state"));
        _debugSymbol = First(elf.Find("_r_debug"));
        _debugPointer = _debugSymbol == 0 ? First(elf.Find("_dl_debug_addr")) : 0;
        if (StateFunction != 0)
        {
            Linker = elf;
        }
    }

    private static ulong First(IReadOnlyList<ulong> addresses) => addresses.Count == 0 ? 0 : addresses[0];
}
