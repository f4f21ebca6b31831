using System.Text;

namespace FastTrap.Native;

/// <summary>/proc/PID/maps (proc_pid_maps(5)): the mappings of an address space, in order of address.</summary>
internal static class ProcMaps
{
    /// <summary>More mappings than any kernel setting in use allows; lines beyond it are not looked at.</summary>
    public const int MaximalCount = 4 * 1024 * 1024;

    private static ReadOnlySpan<byte> DeletedSuffix => " (deleted)"u8;

    /// <summary>Reads the mappings. An empty list is what a kernel thread or a zombie has.</summary>
    public static bool TryRead(IPlatform platform, int processId, out List<MemoryRegion> regions, out Errno error)
    {
        byte[]? text = platform.ReadProcFile($"/proc/{processId}/maps", out error);
        regions = text is null ? [] : Parse(text);
        return text is not null;
    }

    /// <summary>Parses the text. Lines that do not have the form, or are out of order, are left out.</summary>
    public static List<MemoryRegion> Parse(ReadOnlySpan<byte> text)
    {
        List<MemoryRegion> regions = [];
        string lastPath = string.Empty;
        byte[] lastPathBytes = [];
        while (regions.Count < MaximalCount && ProcText.TryTakeLine(ref text, out ReadOnlySpan<byte> line))
        {
            if (!TryParseLine(line, out MemoryRegion region, out ReadOnlySpan<byte> path)
                || (regions.Count > 0 && region.Start < regions[^1].End))
            {
                continue;
            }

            bool deleted = region.Inode != 0 && path.EndsWith(DeletedSuffix);
            if (deleted)
            {
                path = path[..^DeletedSuffix.Length];
            }

            // Neighbours mostly map the same file: one string for all of them.
            if (!path.SequenceEqual(lastPathBytes))
            {
                lastPathBytes = path.ToArray();
                lastPath = Unescape(path);
            }

            regions.Add(region with { Path = lastPath, IsDeleted = deleted });
        }

        return regions;
    }

    private static bool TryParseLine(ReadOnlySpan<byte> line, out MemoryRegion region, out ReadOnlySpan<byte> path)
    {
        region = default;
        path = default;
        if (!ProcText.TryTakeWord(ref line, out ReadOnlySpan<byte> range)
            || !TryParsePair(range, (byte)'-', out ulong start, out ulong end)
            || end <= start
            || !ProcText.TryTakeWord(ref line, out ReadOnlySpan<byte> access)
            || access.Length < 4
            || !ProcText.TryTakeWord(ref line, out ReadOnlySpan<byte> offsetWord)
            || !ProcText.TryParseHex(offsetWord, out ulong offset)
            || !ProcText.TryTakeWord(ref line, out ReadOnlySpan<byte> device)
            || !TryParsePair(device, (byte)':', out ulong major, out ulong minor)
            || major > uint.MaxValue
            || minor > uint.MaxValue
            || !ProcText.TryTakeWord(ref line, out ReadOnlySpan<byte> inodeWord)
            || !ProcText.TryParse(inodeWord, out ulong inode))
        {
            return false;
        }

        MemoryAccess flags = (access[0] == 'r' ? MemoryAccess.Read : 0)
            | (access[1] == 'w' ? MemoryAccess.Write : 0)
            | (access[2] == 'x' ? MemoryAccess.Execute : 0)
            | (access[3] == 's' ? MemoryAccess.Shared : 0);

        // The kernel pads to a column and writes the path to the end of the line, inner and trailing spaces included.
        // A path never starts with a space: files start with '/', the others with '['.
        path = line.TrimStart((byte)' ');
        region = new MemoryRegion(start, end, flags, offset, (uint)major, (uint)minor, inode, string.Empty, false);
        return true;
    }

    private static bool TryParsePair(ReadOnlySpan<byte> word, byte separator, out ulong first, out ulong second)
    {
        int at = word.IndexOf(separator);
        first = 0;
        second = 0;
        return at > 0 && ProcText.TryParseHex(word[..at], out first) && ProcText.TryParseHex(word[(at + 1)..], out second);
    }

    /// <summary>The kernel writes a newline in a path as \012, and nothing else is escaped (a backslash stands for itself).</summary>
    private static string Unescape(ReadOnlySpan<byte> path)
    {
        string text = Encoding.UTF8.GetString(path);
        return text.Contains(@"\012", StringComparison.Ordinal) ? text.Replace(@"\012", "\n", StringComparison.Ordinal) : text;
    }
}
