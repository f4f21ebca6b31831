using System.Globalization;

namespace FastTrap.HitCost;

/// <summary>What the kernel says of used time.</summary>
internal static class ProcessTimes
{
    /// <summary>USER_HZ.</summary>
    public const double TicksPerSecond = 100;

    /// <summary>What a process has used, by all its threads: fields 14 and 15 of its stat.</summary>
    public static double ReadCpuTicks(int processId)
    {
        string stat = File.ReadAllText($"/proc/{processId}/stat");
        string[] words = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        return double.Parse(words[11], CultureInfo.InvariantCulture) + double.Parse(words[12], CultureInfo.InvariantCulture);
    }

    /// <summary>The load average of a minute.</summary>
    public static string ReadLoad() => File.ReadAllText("/proc/loadavg").Split(' ')[0];
}
