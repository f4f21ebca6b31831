using System.Globalization;

namespace FastTrap.Tests.Native;

/// <summary>Nice values of threads, as the kernel shows them.</summary>
internal static class ThreadNice
{
    /// <summary>Whether the kernel lets the calling thread have the nice value -10, and whether it is for the library to change.</summary>
    public static bool MayBeUrgent
    {
        get
        {
            const int CAP_SYS_NICE = 23;
            const int Needed = 20 + 10;

            // In a user namespace capabilities are of that only.
            bool isFirstNamespace = File.ReadAllText("/proc/self/uid_map").Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries) is ["0", "0", "4294967295"];
            string capabilities = File.ReadLines("/proc/thread-self/status").First(static l => l.StartsWith("CapEff:", StringComparison.Ordinal)).Split('\t')[1];
            string limit = File.ReadLines("/proc/self/limits").First(static l => l.StartsWith("Max nice priority", StringComparison.Ordinal))["Max nice priority".Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries)[0];
            return Own == 0 && ((isFirstNamespace && (ulong.Parse(capabilities, NumberStyles.HexNumber, CultureInfo.InvariantCulture) >> CAP_SYS_NICE & 1) != 0)
                || limit == "unlimited" || int.Parse(limit, CultureInfo.InvariantCulture) >= Needed);
        }
    }

    public static int Own => Read("/proc/thread-self");

    /// <summary>Of all threads of this process, by their ids.</summary>
    public static Dictionary<int, int> OfAll()
    {
        Dictionary<int, int> values = [];
        foreach (string directory in Directory.GetDirectories("/proc/self/task"))
        {
            try
            {
                values.Add(int.Parse(Path.GetFileName(directory), CultureInfo.InvariantCulture), Read(directory));
            }
            catch (IOException)
            {
                // It has ended.
            }
        }

        return values;
    }

    public static int Read(string directory)
    {
        // proc(5): the fields behind the name, which is in parentheses, begin with the third; this is the nineteenth.
        const int Field = 19 - 3;
        string stat = File.ReadAllText($"{directory}/stat");
        return int.Parse(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[Field], CultureInfo.InvariantCulture);
    }
}
