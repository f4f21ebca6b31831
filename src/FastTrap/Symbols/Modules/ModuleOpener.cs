using FastTrap.Native;

namespace FastTrap.Symbols;

/// <summary>
/// Opens the files behind a process's mappings: by the path under the target's root when the same file still stands there, else by
/// <c>/proc/PID/exe</c> or <c>/proc/PID/map_files</c>, which the kernel keeps to privileged callers, else a descriptor of it that the target
/// has open (memory files are mostly kept so), else whatever file of that path has the contents that the target's memory shows.
/// </summary>
/// <param name="platform">Opens files.</param>
/// <param name="processId">The target.</param>
/// <param name="cache">Shared by all processes.</param>
/// <param name="readMemory">Reads the target; null when it cannot be read, which costs the vdso and the last resort.</param>
/// <param name="limits">How much of a file is believed.</param>
internal sealed class ModuleOpener(
    IPlatform platform, int processId, SymbolCache cache, ReadTargetMemory? readMemory, ElfLimits? limits = null)
{
    private const int ComparedBytes = 4096;
    private const ulong MaxVdsoBytes = 1 << 20;

    private readonly string _root = $"/proc/{processId}/root";

    /// <summary>The target's process id.</summary>
    public int ProcessId => processId;

    /// <summary>The kernel interface that files are read by.</summary>
    public IPlatform Platform => platform;

    /// <summary>Opens a module's file and finds out by how much it was moved.</summary>
    public (ModuleImage? Image, ulong Bias, ModuleFailure? Failure) Load(Module module)
    {
        try
        {
            ModuleImage? image = module.IsVdso ? OpenVdso(module, out ModuleFailure? failure) : OpenFile(module, out failure);
            if (image == null)
            {
                return (null, 0, failure);
            }

            return TryComputeBias(image.Elf, module, out ulong bias)
                ? (image, bias, null)
                : (null, 0, new ModuleFailure(
                    ModuleProblem.NotLoaded,
                    $"{module.Path}: no code segment of the file is mapped by the target; it was not loaded as a program or library"));
        }
        catch (ElfFormatException exception)
        {
            return (null, 0, new ModuleFailure(ModuleProblem.BadFormat, exception.Message, exception.Problem));
        }
    }

    /// <summary>
    /// The difference between where a segment is mapped and where it was linked to be. Any part of it will do: address minus file offset
    /// is the same all over a segment, whatever the page size.
    /// </summary>
    public static bool TryComputeBias(ElfFile elf, Module module, out ulong bias)
    {
        bias = 0;
        if (elf.Type == ElfType.Executable)
        {
            return true;
        }

        // Code that was moved to anonymous huge pages leaves only its data mapped from the file.
        return TryComputeBias(elf, module.ExecutableRanges, true, out bias) || TryComputeBias(elf, module.Ranges, false, out bias);
    }

    private static bool TryComputeBias(ElfFile elf, IReadOnlyList<MappedRange> ranges, bool isCode, out ulong bias)
    {
        foreach (MappedRange range in ranges)
        {
            foreach (ElfSegment segment in elf.Segments)
            {
                bool isMapped = segment.Type == ElfSegment.Load && segment.IsExecutable == isCode && range.Path.Length != 0
                    && segment.FileSize != 0 && segment.FileOffset < range.FileOffset + range.Length
                    && (range.FileOffset < segment.FileOffset || range.FileOffset - segment.FileOffset < segment.FileSize);
                bias = unchecked(range.Start - range.FileOffset + segment.FileOffset - segment.Address);
                if (isMapped && (bias & 0xfff) == 0)
                {
                    return true;
                }
            }
        }

        bias = 0;
        return false;
    }

    private ModuleImage? OpenVdso(Module module, out ModuleFailure? failure)
    {
        failure = null;
        ulong length = module.End - module.Start;
        if (readMemory == null || length > MaxVdsoBytes)
        {
            failure = new ModuleFailure(
                ModuleProblem.Unreadable,
                "the vdso exists only in the target's memory, which cannot be read: it needs the permission to trace the target");
            return null;
        }

        return new ModuleImage(ElfFile.Open(new TargetMemoryFile(readMemory, module.Start, length), module.Path, limits));
    }

    private ModuleImage? OpenFile(Module module, out ModuleFailure? failure)
    {
        MappedRange first = module.Ranges[0];
        string path = _root + module.Path;
        Errno error = platform.OpenFile(path, out TargetFile? file);
        ModuleImage? image = null;
        if (error == Errno.None && !module.IsDeleted && IsSameFile(file!, module))
        {
            failure = null;
            return Share(file!, path, module);
        }

        if (module.IsMainExecutable && TryOpenAs($"/proc/{processId}/exe", first, module, out image))
        {
            file?.Dispose();
            failure = null;
            return image;
        }

        string mapped = $"/proc/{processId}/map_files/{first.Start:x}-{first.End:x}";
        if (platform.OpenFile(mapped, out TargetFile? mappedFile) == Errno.None)
        {
            file?.Dispose();
            failure = null;
            return Share(mappedFile!, mapped, module);
        }

        if (module.IsDeleted && TryOpenDescriptor(first, module, out image))
        {
            file?.Dispose();
            failure = null;
            return image;
        }

        if (error == Errno.None)
        {
            if (HasContentsOf(file!, path, module))
            {
                failure = null;
                return Share(file!, path, module);
            }

            file!.Dispose();
        }

        failure = Describe(module, error);
        return null;
    }

    /// <summary>Looks among the target's open descriptors for the one of a file that has no path any more.</summary>
    private bool TryOpenDescriptor(in MappedRange range, Module module, out ModuleImage? image)
    {
        image = null;
        string directory = $"/proc/{processId}/fd";
        List<int> descriptors = [];
        _ = platform.ListProcIds(directory, descriptors);
        foreach (int descriptor in descriptors)
        {
            string path = $"{directory}/{descriptor}";
            if (platform.ReadLink(path, out _) is { } link && link.StartsWith(module.Path, StringComparison.Ordinal) && TryOpenAs(path, range, module, out image))
            {
                return true;
            }
        }

        return false;
    }

    private bool TryOpenAs(string path, in MappedRange range, Module module, out ModuleImage? image)
    {
        image = null;
        if (platform.OpenFile(path, out TargetFile? file) != Errno.None)
        {
            return false;
        }

        if (file!.Identity.Inode != range.Inode)
        {
            file.Dispose();
            return false;
        }

        image = Share(file, path, module);
        return true;
    }

    /// <summary>
    /// Device numbers in the maps differ from those of stat on some file systems (btrfs, overlays), so a differing one refutes nothing; but
    /// then the contents must not differ.
    /// </summary>
    private bool IsSameFile(TargetFile file, Module module)
    {
        MappedRange first = module.Ranges[0];
        return file.Identity.Inode == first.Inode
            && (first.Device == 0 || first.Device == file.Identity.Device || ReadFirstPage(file, module) is not { IsEqual: false });
    }

    /// <summary>
    /// Whether a file shows the same first page as the target has in memory, and that page holds a build id. Overlay file systems give
    /// other inode numbers to the same file, and a container's files may have been put back as they were.
    /// </summary>
    private bool HasContentsOf(TargetFile file, string path, Module module)
    {
        if (ReadFirstPage(file, module) is not { IsEqual: true } page)
        {
            return false;
        }

        try
        {
            ElfFile elf = ElfFile.Open(file, path, limits);
            return !elf.BuildId.IsEmpty && page.Bytes.AsSpan().IndexOf(elf.BuildId) >= 0;
        }
        catch (ElfFormatException)
        {
            // Whatever it is, it cannot vouch for itself.
            return false;
        }
    }

    /// <summary>The file's first page and whether memory shows the same; null when memory cannot be read there.</summary>
    private (byte[] Bytes, bool IsEqual)? ReadFirstPage(TargetFile file, Module module)
    {
        MappedRange first = module.Ranges[0];
        int length = (int)Math.Min(Math.Min((ulong)ComparedBytes, first.Length), (ulong)file.Length);
        byte[] inMemory = new byte[length];
        byte[] inFile = new byte[length];
        return readMemory == null || first.FileOffset != 0 || !readMemory(first.Start, inMemory)
            ? null
            : (inFile, file.Read(0, inFile) == length && inMemory.AsSpan().SequenceEqual(inFile));
    }

    private ModuleImage Share(TargetFile file, string path, Module module)
    {
        FileIdentity identity = file.Identity;
        if (cache.TryGet(identity, out ModuleImage? cached))
        {
            file.Dispose();
            return cached!;
        }

        bool isKept = false;
        try
        {
            ModuleImage image = new(ElfFile.Open(file, path, limits), new DebugFileLocator(platform, _root, module.Path));
            ModuleImage shared = cache.GetOrAdd(identity, image);
            isKept = ReferenceEquals(image, shared);
            return shared;
        }
        finally
        {
            if (!isKept)
            {
                file.Dispose();
            }
        }
    }

    private static ModuleFailure Describe(Module module, Errno error)
    {
        const string Privilege =
            "what is still mapped can be opened only with CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE: run as root, or restart the target";
        if (module.IsDeleted)
        {
            return new ModuleFailure(ModuleProblem.Deleted, $"{module.Path} has been deleted since the target loaded it; {Privilege}");
        }

        return error switch
        {
            Errno.None => new ModuleFailure(
                ModuleProblem.Replaced, $"{module.Path} has been replaced since the target loaded it; {Privilege}"),
            Errno.ENOENT or Errno.ENOTDIR => new ModuleFailure(
                ModuleProblem.NotFound, $"{module.Path} does not exist in the target's file system; {Privilege}"),
            Errno.EACCES or Errno.EPERM => new ModuleFailure(
                ModuleProblem.PermissionDenied, $"{module.Path} may not be read: run as the target's user or as root"),
            _ => new ModuleFailure(ModuleProblem.NotFound, $"{module.Path} cannot be opened ({error})"),
        };
    }
}
