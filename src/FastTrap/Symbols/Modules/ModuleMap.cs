using System.Buffers.Binary;
using FastTrap.Native;

namespace FastTrap.Symbols;

/// <summary>
/// The modules of a process at one moment, made from its mappings; files are opened only as modules are asked. Immutable; any thread.
/// </summary>
internal sealed class ModuleMap
{
    private const ulong ProgramHeadersTag = 3;

    private readonly Module[] _modules;
    private readonly ulong[] _codeStarts;
    private readonly (ulong End, Module Module)[] _code;

    private ModuleMap(Module[] modules)
    {
        _modules = modules;
        MainExecutable = Array.Find(modules, m => m.IsMainExecutable);
        (ulong Start, ulong End, Module Module)[] code =
            [.. modules.SelectMany(m => m.ExecutableRanges, (m, r) => (r.Start, r.End, m)).OrderBy(c => c.Start)];
        _codeStarts = Array.ConvertAll(code, c => c.Start);
        _code = Array.ConvertAll(code, c => (c.End, c.Module));
    }

    /// <summary>All modules that have code, in order of addresses; JIT code last.</summary>
    public IReadOnlyList<Module> Modules => _modules;

    /// <summary>The program itself; null when it cannot be told.</summary>
    public Module? MainExecutable { get; }

    /// <summary>Makes modules of mappings.</summary>
    /// <param name="mappings">In order of addresses, as the kernel lists them.</param>
    /// <param name="opener">Opens files when they are needed.</param>
    /// <param name="previous">An earlier map of the same process: modules that are unchanged are taken over with what they have
    /// read.</param>
    /// <param name="perfMap">The names of JIT code, if the target writes them.</param>
    public static ModuleMap Create(
        IReadOnlyList<MappedRange> mappings, ModuleOpener opener, ModuleMap? previous = null, PerfMap? perfMap = null)
    {
        List<List<MappedRange>> instances = Group(mappings);
        int main = FindMain(instances, opener);
        List<Module> modules = [];
        for (int i = 0; i < instances.Count; i++)
        {
            MappedRange[] ranges = [.. instances[i]];
            MappedRange[] code = CodeOf(ranges, mappings);
            if (code.Length != 0)
            {
                Module? known = Array.Find(previous?._modules ?? [], m => !m.IsJit && m.IsSameInstance(ranges, code, i == main));
                modules.Add(known ?? new Module(ranges, code, i == main, opener));
            }
        }

        if (perfMap != null)
        {
            modules.Add(Array.Find(previous?._modules ?? [], m => m.IsJit) ?? new Module(perfMap));
        }

        return new ModuleMap([.. modules]);
    }

    /// <summary>The module whose code contains an address, or null.</summary>
    public Module? Find(ulong address)
    {
        int index = Array.BinarySearch(_codeStarts, address);
        index = index < 0 ? ~index - 1 : index;
        if (index >= 0 && address < _code[index].End)
        {
            return _code[index].Module;
        }

        return _modules is [.., { IsJit: true } jit] && jit.ContainsCode(address) ? jit : null;
    }

    /// <summary>The same without modules that begin in a range of addresses.</summary>
    public ModuleMap Without(ulong start, ulong length) => new([.. _modules.Where(m => m.Start - start >= length)]);

    /// <summary>The modules which a pattern matches, in order of addresses.</summary>
    public IEnumerable<Module> Match(ModulePattern pattern) => _modules.Where(pattern.IsMatch);

    /// <summary>
    /// Splits mappings into instances of files. The pieces of one instance follow one another in the file as in memory; where the offset
    /// falls back, or the beginning of the file is mapped again the same way, another instance begins.
    /// </summary>
    private static List<List<MappedRange>> Group(IReadOnlyList<MappedRange> mappings)
    {
        List<List<MappedRange>> instances = [];
        Dictionary<(ulong Inode, ulong Device, string Path), List<MappedRange>> open = [];
        foreach (MappedRange mapping in mappings)
        {
            MappedRange range = mapping.WithoutSuffix();
            if (!range.IsFile && range.Path != Module.VdsoName)
            {
                continue;
            }

            (ulong, ulong, string) key = (range.Inode, range.Device, range.Path);
            if (!open.TryGetValue(key, out List<MappedRange>? current) || StartsInstance(current[^1], range))
            {
                current = [];
                open[key] = current;
                instances.Add(current);
            }

            current.Add(range);
        }

        return instances;
    }

    private static bool StartsInstance(in MappedRange last, in MappedRange next) =>
        next.FileOffset < last.FileOffset
        || (next.FileOffset == last.FileOffset && next.Executable == last.Executable && next.Writable == last.Writable);

    /// <summary>
    /// The executable ranges of an instance. Some programs move their code to anonymous huge pages; it then stands without a path between
    /// the instance's other ranges.
    /// </summary>
    private static MappedRange[] CodeOf(MappedRange[] ranges, IReadOnlyList<MappedRange> mappings)
    {
        MappedRange[] code = Array.FindAll(ranges, r => r.Executable);
        if (code.Length != 0 || ranges.Length == 1)
        {
            return code;
        }

        return [.. mappings.Where(m => m.Executable && m.Inode == 0 && m.Start >= ranges[0].End && m.End <= ranges[^1].Start)];
    }

    private static int FindMain(List<List<MappedRange>> instances, ModuleOpener opener)
    {
        // The kernel told the program where its own headers are; that survives renames, deletion and links.
        ulong headers = ReadAuxiliary(opener, ProgramHeadersTag);
        int found = headers == 0 ? -1 : instances.FindIndex(i => i.Exists(r => headers - r.Start < r.Length));
        if (found >= 0)
        {
            return found;
        }

        string? path = opener.Platform.ReadLink($"/proc/{opener.ProcessId}/exe", out _);
        string? plain = path == null ? null : new MappedRange(0, 0, 0, false, false, path, 0, false).WithoutSuffix().Path;
        return instances.FindIndex(i => i[0].Path == plain);
    }

    private static ulong ReadAuxiliary(ModuleOpener opener, ulong tag)
    {
        ReadOnlySpan<byte> bytes = opener.Platform.ReadProcFile($"/proc/{opener.ProcessId}/auxv", out _);
        for (; bytes.Length >= 16; bytes = bytes[16..])
        {
            if (BinaryPrimitives.ReadUInt64LittleEndian(bytes) == tag)
            {
                return BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]);
            }
        }

        return 0;
    }
}
