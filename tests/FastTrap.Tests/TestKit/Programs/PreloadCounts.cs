using System.Globalization;

namespace FastTrap.Tests.TestKit.Programs;

/// <summary>How often a program has called <c>malloc</c> and <c>free</c>, as the library that was preloaded into it counts. Needs no rights but to read its memory.</summary>
internal readonly record struct PreloadCounts(long Mallocs, long Frees)
{
    private const string Library = "preload_count";

    /// <summary>The environment with which a program counts.</summary>
    public static Dictionary<string, string> Environment => new() { ["LD_PRELOAD"] = TargetBuilder.BuildLibrary(Library) };

    public static PreloadCounts operator -(PreloadCounts left, PreloadCounts right) => left.Minus(right);

    public PreloadCounts Minus(PreloadCounts other) => new(Mallocs - other.Mallocs, Frees - other.Frees);

    /// <summary>Reads the counters out of the program's memory. Exact while the program waits for something.</summary>
    public static PreloadCounts Read(int processId)
    {
        string path = TargetBuilder.BuildLibrary(Library);
        string line = File.ReadLines($"/proc/{processId}/maps").First(text => text.EndsWith(path, StringComparison.Ordinal));
        ulong start = ulong.Parse(line.AsSpan(0, line.IndexOf('-', StringComparison.Ordinal)), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        using FileStream memory = new($"/proc/{processId}/mem", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        return new PreloadCounts(Counter("mallocs"), Counter("frees"));

        long Counter(string name)
        {
            Span<byte> value = stackalloc byte[8];
            Assert.That(RandomAccess.Read(memory.SafeFileHandle, value, (long)(start + ElfTools.Variable(path, name))), Is.EqualTo(8));
            return BitConverter.ToInt64(value);
        }
    }
}
