using System.Globalization;

namespace FastTrap.Tests.Native;

/// <summary>Nice values of threads, as the kernel shows them.</summary>
internal static class ThreadNice
{
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
