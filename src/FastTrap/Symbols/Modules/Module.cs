namespace FastTrap.Symbols;

/// <summary>
/// One loaded instance of a file in a process, the vdso, or the JIT code that a perf map names. Its file is opened on first need; a failure
/// is kept, and does not keep the module from being listed.
/// </summary>
/// <remarks>Immutable but for what is read lazily; any thread.</remarks>
internal sealed class Module
{
    /// <summary>The name of the module that stands for JIT code.</summary>
    public const string JitName = "[jit]";

    /// <summary>The name of the module that the kernel maps.</summary>
    public const string VdsoName = "[vdso]";

    /// <summary>How the kernel names a file that exists in memory only (<c>memfd_create</c>).</summary>
    private const string MemoryFilePrefix = "/memfd:";

    private readonly MappedRange[] _ranges;
    private readonly MappedRange[] _executableRanges;
    private readonly PerfMap? _perfMap;
    private readonly Lazy<(ModuleImage? Image, ulong Bias, ModuleFailure? Failure)> _loaded;

    /// <summary>Makes a module of the ranges of one instance of a file, in order of addresses.</summary>
    public Module(MappedRange[] ranges, MappedRange[] executableRanges, bool isMainExecutable, ModuleOpener opener)
    {
        _ranges = ranges;
        _executableRanges = executableRanges;
        Path = ranges[0].Path;
        IsVdso = Path == VdsoName;
        IsDeleted = ranges[0].Deleted;
        IsMainExecutable = isMainExecutable;
        Name = Path[(Path.LastIndexOf('/') + 1)..];
        if (Path.StartsWith(MemoryFilePrefix, StringComparison.Ordinal) && Path.Length > MemoryFilePrefix.Length)
        {
            // A colon cannot be written in a description.
            Name = Path[MemoryFilePrefix.Length..];
        }

        _loaded = new(() => opener.Load(this));
    }

    /// <summary>Makes the module of a process's JIT code.</summary>
    public Module(PerfMap perfMap)
    {
        _ranges = [];
        _executableRanges = [];
        _perfMap = perfMap;
        Path = perfMap.Path;
        Name = JitName;
        _loaded = new((null, 0, new ModuleFailure(ModuleProblem.NotFound, "JIT code has no file")));
    }

    /// <summary>The last part of the path; of a file in memory, what its maker named it.</summary>
    public string Name { get; }

    /// <summary>The path as the target sees it, without the mark of deleted files.</summary>
    public string Path { get; }

    /// <summary>Whether it is the program itself.</summary>
    public bool IsMainExecutable { get; }

    /// <summary>Whether it is the kernel's vdso.</summary>
    public bool IsVdso { get; }

    /// <summary>Whether it is the JIT code of a perf map.</summary>
    public bool IsJit => _perfMap != null;

    /// <summary>Whether the file had been deleted when the maps were read.</summary>
    public bool IsDeleted { get; }

    /// <summary>All ranges, in order of addresses; none for JIT code.</summary>
    public IReadOnlyList<MappedRange> Ranges => _ranges;

    /// <summary>The ranges with code, in order of addresses.</summary>
    public IReadOnlyList<MappedRange> ExecutableRanges => _executableRanges;

    /// <summary>The lowest address; 0 for JIT code.</summary>
    public ulong Start => _ranges.Length == 0 ? 0 : _ranges[0].Start;

    /// <summary>The address after the highest; 0 for JIT code.</summary>
    public ulong End => _ranges.Length == 0 ? 0 : _ranges[^1].End;

    /// <summary>DT_SONAME; null when there is none or the file cannot be read.</summary>
    public string? Soname
    {
        get
        {
            try
            {
                return _loaded.Value.Image?.Elf.Soname;
            }
            catch (ElfFormatException)
            {
                // The name is one of several that a module goes by; whoever needs the contents gets the failure from there.
                return null;
            }
        }
    }

    /// <summary>What is added to a link-time address to get the target's; 0 when the file cannot be read.</summary>
    public ulong LoadBias => _loaded.Value.Bias;

    /// <summary>The file behind the module, or why there is none.</summary>
    public bool TryGetImage(out ModuleImage image, out ModuleFailure failure)
    {
        (ModuleImage? loaded, _, ModuleFailure? problem) = _loaded.Value;
        image = loaded!;
        failure = problem!;
        return loaded != null;
    }

    /// <summary>The functions of the module, or why there are none. Their addresses plus <see cref="LoadBias"/> are the target's.</summary>
    public bool TryGetSymbols(out SymbolTable symbols, out ModuleFailure failure)
    {
        symbols = SymbolTable.Empty;
        failure = null!;
        if (_perfMap != null)
        {
            symbols = _perfMap.Symbols;
            return true;
        }

        if (!TryGetImage(out ModuleImage image, out failure))
        {
            return false;
        }

        try
        {
            symbols = image.Symbols;
            return true;
        }
        catch (ElfFormatException exception)
        {
            failure = new ModuleFailure(ModuleProblem.BadFormat, exception.Message, exception.Problem);
            return false;
        }
    }

    /// <summary>The function that contains a target address; -1 if none does.</summary>
    public int FindFunction(ulong address, out SymbolTable symbols) =>
        TryGetSymbols(out symbols, out _) ? symbols.FindContaining(unchecked(address - LoadBias)) : -1;

    /// <summary>Whether a target address lies in the module's code.</summary>
    public bool ContainsCode(ulong address)
    {
        foreach (MappedRange range in _executableRanges)
        {
            if (address - range.Start < range.Length)
            {
                return true;
            }
        }

        return IsJit && _perfMap!.Symbols.FindContaining(address) >= 0;
    }

    public override string ToString() => Path;

    /// <summary>Whether this is the same instance as the given ranges describe.</summary>
    internal bool IsSameInstance(MappedRange[] ranges, MappedRange[] executableRanges, bool isMainExecutable) =>
        IsMainExecutable == isMainExecutable && _ranges[0].Start == ranges[0].Start && _ranges[0].Inode == ranges[0].Inode
        && _ranges[0].Device == ranges[0].Device && _ranges[0].Deleted == ranges[0].Deleted && Path == ranges[0].Path
        && _executableRanges.AsSpan().SequenceEqual(executableRanges);
}
