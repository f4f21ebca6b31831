using System.Globalization;

namespace FastTrap.Tests.TestKit;

/// <summary>One byte of a live process's text which is not its file's.</summary>
internal readonly record struct TextDifference(string Path, ulong Address, long FileOffset, byte InFile, byte InMemory)
{
    public override string ToString() => $"{System.IO.Path.GetFileName(Path)}+{FileOffset:x} ({Address:x}): {InFile:x2} in the file, {InMemory:x2} in memory";
}

/// <summary>Compares all executable memory of a live process that comes from files with those files.</summary>
internal static class TextCheck
{
    private const int MaximumDifferences = 1000;

    /// <summary>The differences, at most a thousand.</summary>
    /// <exception cref="InvalidOperationException">There was nothing to compare: the process has ended.</exception>
    public static IReadOnlyList<TextDifference> Compare(int processId)
    {
        List<TextDifference> differences = [];
        long compared = 0;
        using FileStream memory = new($"/proc/{processId}/mem", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        foreach (string line in File.ReadAllLines($"/proc/{processId}/maps"))
        {
            string[] fields = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries);
            if (fields.Length < 6 || fields[1][2] != 'x' || !fields[5].StartsWith('/') || fields[5].StartsWith("/memfd:", StringComparison.Ordinal))
            {
                continue;
            }

            string[] range = fields[0].Split('-');
            ulong start = ulong.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            ulong end = ulong.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            long offset = long.Parse(fields[2], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            compared += CompareRange(memory, $"/proc/{processId}/map_files/{fields[0]}", fields[5], start, end, offset, differences);
        }

        return compared > 0 ? differences : throw new InvalidOperationException($"Process {processId} has no text that could be compared.");
    }

    /// <summary>Waits until a trap stands in a target's own text: the library's trap in the run-time linker, which comes before, does not count.</summary>
    public static void WaitForProbes(TargetProcess target, TargetProcess tracer)
    {
        while (!Compare(target.ProcessId).Any(difference => difference.Path == target.Path) && tracer.Exit is null)
        {
            tracer.TryWaitForExit(TimeSpan.FromMilliseconds(10));
        }
    }

    /// <summary>Fails the test with the differences, if there are some.</summary>
    public static void AssertClean(int processId)
    {
        IReadOnlyList<TextDifference> differences = Compare(processId);
        Assert.That(differences, Is.Empty, () => $"{differences.Count} bytes of text differ: {string.Join("; ", differences.Take(10))}");
    }

    private static long CompareRange(
        FileStream memory, string mapFile, string path, ulong start, ulong end, long offset, List<TextDifference> differences)
    {
        // A deleted file is still there under map_files, for those who may look.
        string source = File.Exists(path) ? path : mapFile;
        using FileStream file = new(source, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        byte[] expected = new byte[65_536];
        byte[] actual = new byte[65_536];
        long compared = 0;
        for (ulong address = start; address < end;)
        {
            int wanted = (int)Math.Min((ulong)expected.Length, end - address);
            long position = offset + (long)(address - start);
            int inFile = RandomAccess.Read(file.SafeFileHandle, expected.AsSpan(0, wanted), position);
            if (inFile <= 0)
            {
                break;
            }

            int inMemory = RandomAccess.Read(memory.SafeFileHandle, actual.AsSpan(0, inFile), (long)address);
            for (int i = 0; i < Math.Min(inFile, inMemory); i++)
            {
                if (expected[i] != actual[i] && differences.Count < MaximumDifferences)
                {
                    differences.Add(new TextDifference(path, address + (ulong)i, position + i, expected[i], actual[i]));
                }
            }

            if (inMemory <= 0)
            {
                throw new IOException($"{path} at {address:x} cannot be read in the process.");
            }

            compared += inMemory;
            address += (ulong)inMemory;
        }

        return compared;
    }
}
