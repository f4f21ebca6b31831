using FastTrap.Native;

namespace FastTrap.Symbols;

/// <summary>
/// Finds the separate debug file of a stripped program: by build id, then by .gnu_debuglink, first under the target's root, then under
/// this machine's (a build id names contents, so a file found there is as good).
/// </summary>
/// <param name="platform">Opens files.</param>
/// <param name="root">The prefix of the target's root, such as <c>/proc/42/root</c>; empty for this machine's.</param>
/// <param name="modulePath">The module's path as the target sees it, for the debuglink search.</param>
internal sealed class DebugFileLocator(IPlatform platform, string root, string modulePath)
{
    private const string DebugDirectory = "/usr/lib/debug";

    /// <summary>Opens the debug file, or returns null when none fits. Files which do not fit are passed over.</summary>
    public ElfFile? Find(ElfFile elf)
    {
        foreach (string prefix in root.Length == 0 ? [""] : new[] { root, "" })
        {
            ElfFile? found = FindByBuildId(elf, prefix) ?? FindByLink(elf, prefix);
            if (found != null)
            {
                return found;
            }
        }

        return null;
    }

    private ElfFile? FindByBuildId(ElfFile elf, string prefix)
    {
        if (elf.BuildId.Length < 2)
        {
            return null;
        }

        string id = Convert.ToHexStringLower(elf.BuildId);
        return TryOpen($"{prefix}{DebugDirectory}/.build-id/{id[..2]}/{id[2..]}.debug", elf, null);
    }

    private ElfFile? FindByLink(ElfFile elf, string prefix)
    {
        // The name is the file's own word: it must not lead out of the directories that are searched.
        if (elf.DebugLinkName is not { Length: > 0 } name || name.Contains('/', StringComparison.Ordinal) || name is "." or "..")
        {
            return null;
        }

        string directory = modulePath[..Math.Max(0, modulePath.LastIndexOf('/'))];
        uint crc = elf.DebugLinkCrc;
        return TryOpen($"{prefix}{directory}/{name}", elf, crc)
            ?? TryOpen($"{prefix}{directory}/.debug/{name}", elf, crc)
            ?? TryOpen($"{prefix}{DebugDirectory}{directory}/{name}", elf, crc);
    }

    private ElfFile? TryOpen(string path, ElfFile elf, uint? crc)
    {
        if (platform.OpenFile(path, out TargetFile? file) != Errno.None || file == null)
        {
            return null;
        }

        bool isKept = false;
        try
        {
            ElfFile debug = ElfFile.Open(file, path, elf.Limits);
            bool idsDiffer = !elf.BuildId.SequenceEqual(debug.BuildId);
            bool fits = crc is { } expected
                ? (elf.BuildId.IsEmpty || debug.BuildId.IsEmpty || !idsDiffer) && debug.ComputeCrc() == expected
                : !idsDiffer;
            isKept = fits && debug.Machine == elf.Machine && debug.TryGetSection(ElfSection.SymbolTable, out _);
            return isKept ? debug : null;
        }
        catch (ElfFormatException)
        {
            // Something that is no debug file stands at the place where one might: the same as none.
            return null;
        }
        finally
        {
            if (!isKept)
            {
                file.Dispose();
            }
        }
    }
}
