using System.Globalization;

namespace FastTrap.Tests.TestKit;

/// <summary>Finds what a test should have put away: child processes, traced threads, temporary files.</summary>
internal static class Leftovers
{
    /// <summary>One sentence for each thing left behind.</summary>
    public static IReadOnlyList<string> Find()
    {
        List<string> found = [];
        string self = Environment.ProcessId.ToString(CultureInfo.InvariantCulture);
        foreach (string directory in Directory.GetDirectories("/proc"))
        {
            if (char.IsAsciiDigit(Path.GetFileName(directory)[0]))
            {
                Examine(directory, self, found);
            }
        }

        foreach (string entry in Directory.GetFileSystemEntries(Path.GetTempPath(), PrivateDirectory.Prefix + "*"))
        {
            found.Add($"temporary files {entry}");
        }

        return found;
    }

    private static void Examine(string directory, string self, List<string> found)
    {
        try
        {
            string[] status = File.ReadAllLines(Path.Combine(directory, "status"));
            if (Field(status, "PPid:") == self)
            {
                found.Add($"child process {Path.GetFileName(directory)} ({Field(status, "Name:")}, state {Field(status, "State:")})");
            }

            foreach (string thread in Directory.GetDirectories(Path.Combine(directory, "task")))
            {
                if (Field(File.ReadAllLines(Path.Combine(thread, "status")), "TracerPid:") == self)
                {
                    found.Add($"traced thread {Path.GetFileName(thread)} of process {Path.GetFileName(directory)} ({Field(status, "Name:")})");
                }
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // It ended while we looked, or is hidden from us: then it is not ours.
            return;
        }
    }

    private static string Field(string[] status, string name) =>
        status.FirstOrDefault(line => line.StartsWith(name, StringComparison.Ordinal))?[name.Length..].Trim() ?? "";
}
