using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Native;
using FastTrap.Symbols;

namespace FastTrap.Probes;

/// <summary>The probes of a file that no process need have loaded.</summary>
internal static class FileProbes
{
    public static List<ProbeInfo> List(IPlatform platform, string path, ProbeDescription description)
    {
        Errno error = platform.OpenFile(path, out TargetFile? file);
        if (error != Errno.None)
        {
            throw new FastTrapException(
                FastTrapError.InvalidFile,
                error switch
                {
                    Errno.ENOENT => $"There is no file '{path}'.",
                    Errno.EACCES => $"'{path}' may not be read by this user.",
                    Errno.EINVAL or Errno.EISDIR => $"'{path}' is no regular file.",
                    _ => $"'{path}' cannot be opened ({error}).",
                },
                errorNumber: (int)error);
        }

        try
        {
            using ElfFile elf = ElfFile.Open(file!, path);
            return List(elf, new ModuleImage(elf, new DebugFileLocator(platform, "", Path.GetFullPath(path))), path, description);
        }
        catch (ElfFormatException e)
        {
            throw new FastTrapException(FastTrapError.InvalidFile, e.Message, innerException: e);
        }
    }

    private static List<ProbeInfo> List(ElfFile elf, ModuleImage image, string path, ProbeDescription description)
    {
        List<ProbeInfo> probes = [];
        string name = path[(path.LastIndexOf('/') + 1)..];
        if (!IsModule(description.Module, name, path, elf.Soname))
        {
            return probes;
        }

        ModuleCode module = new(name, image.Symbols, image, 0);
        InstructionSet isa = InstructionSet.For(elf.Machine == ElfMachine.X64 ? Architecture.X64 : Architecture.Arm64);
        IProbeSource[] sources = [new FunctionProbes("", isa, elf.ReadAtAddress, null), new StaticProbes("", isa, elf.ReadAtAddress)];
        foreach (IProbeSource source in sources)
        {
            if (source.Means(description))
            {
                source.List(module, description, probes, CancellationToken.None);
            }
        }

        return probes;
    }

    private static bool IsModule(string pattern, string name, string path, string? soname)
    {
        Glob glob = new(pattern);
        return glob.IsMatch(name) || glob.IsMatch(path) || glob.IsMatch("a.out") || (soname is not null && glob.IsMatch(soname));
    }
}
