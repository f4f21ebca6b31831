using System.Globalization;

namespace FastTrap.Tests.TestKit;

/// <summary>A symbol as binutils sees it.</summary>
internal readonly record struct ElfSymbol(string Name, ulong Address, ulong Length, long FileOffset);

/// <summary>A note of a static probe as binutils sees it.</summary>
internal readonly record struct ElfStaticProbe(string Provider, string Name, ulong Address, ulong Semaphore, string Arguments);

/// <summary>Facts of an ELF file by <c>readelf</c> and <c>objdump</c>: oracles for the library's own reader.</summary>
internal static class ElfTools
{
    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(2);

    /// <summary>All defined functions of the symbol tables (static and dynamic), without version suffixes, each name and address once.</summary>
    public static IReadOnlyList<ElfSymbol> Functions(string path)
    {
        string[] segments = Run("readelf", "-lW", path);
        HashSet<ElfSymbol> symbols = [];
        foreach (string line in Run("readelf", "-Ws", path))
        {
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (fields.Length >= 8 && fields[3] is "FUNC" or "IFUNC" && fields[6] != "UND")
            {
                ulong address = ulong.Parse(fields[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
                ulong length = fields[2].StartsWith("0x", StringComparison.Ordinal)
                    ? Convert.ToUInt64(fields[2], 16) : ulong.Parse(fields[2], CultureInfo.InvariantCulture);
                symbols.Add(new ElfSymbol(fields[7].Split('@')[0], address, length, ToFileOffset(segments, address)));
            }
        }

        return [.. symbols];
    }

    /// <summary>One function by name.</summary>
    public static ElfSymbol Function(string path, string name) => Functions(path).First(symbol => symbol.Name == name);

    /// <summary>The address of a variable by name.</summary>
    public static ulong Variable(string path, string name) => Run("readelf", "-Ws", path)
        .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        .Where(fields => fields.Length >= 8 && fields[3] == "OBJECT" && fields[7] == name)
        .Select(fields => ulong.Parse(fields[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture)).First();

    /// <summary>Addresses of the instructions from an address on, as objdump decodes them, with their text.</summary>
    public static IReadOnlyList<(ulong Address, string Text)> Instructions(string path, ulong address, ulong length)
    {
        List<(ulong, string)> result = [];
        foreach (string line in Run("objdump", "-d", "--no-show-raw-insn", $"--start-address=0x{address:x}", $"--stop-address=0x{address + length:x}", path))
        {
            int colon = line.IndexOf(":\t", StringComparison.Ordinal);
            if (colon > 0 && ulong.TryParse(line.AsSpan(0, colon).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong at))
            {
                result.Add((at, line[(colon + 2)..].Trim()));
            }
        }

        return result;
    }

    /// <summary>Where the file holds the byte at an address.</summary>
    public static long FileOffset(string path, ulong address) => ToFileOffset(Run("readelf", "-lW", path), address);

    /// <summary>All static probes by their notes.</summary>
    public static IReadOnlyList<ElfStaticProbe> StaticProbes(string path)
    {
        List<ElfStaticProbe> probes = [];
        string[] lines = [.. Run("readelf", "-n", path).Select(line => line.Trim())];
        for (int i = 0; i + 3 < lines.Length; i++)
        {
            if (lines[i].StartsWith("Provider: ", StringComparison.Ordinal))
            {
                ulong[] numbers = [.. lines[i + 2].Split(", ").Select(part => Convert.ToUInt64(part.Split(' ')[1], 16))];
                probes.Add(new ElfStaticProbe(lines[i][10..], lines[i + 1][6..], numbers[0], numbers[2], lines[i + 3]["Arguments:".Length..].Trim()));
            }
        }

        return probes;
    }

    /// <summary>The one note of a name.</summary>
    public static (ulong Address, ulong Semaphore) StaticProbe(string path, string name)
    {
        ElfStaticProbe probe = StaticProbes(path).Single(probe => probe.Name == name);
        return (probe.Address, probe.Semaphore);
    }

    private static long ToFileOffset(string[] segments, ulong address)
    {
        foreach (string line in segments)
        {
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (fields is ["LOAD", ..])
            {
                ulong offset = Convert.ToUInt64(fields[1], 16), start = Convert.ToUInt64(fields[2], 16), length = Convert.ToUInt64(fields[4], 16);
                if (address - start < length)
                {
                    return (long)(address - start + offset);
                }
            }
        }

        return -1;
    }

    private static string[] Run(string tool, params string[] arguments)
    {
        string? path = Command.Find(tool);
        if (path is null)
        {
            Assert.Ignore($"{tool} (binutils) is not installed.");
        }

        CommandResult result = Command.Run(path!, arguments, s_timeout);
        return result.ExitCode == 0 ? result.Output.Split('\n') : throw new InvalidOperationException($"{tool}: {result.Error}");
    }
}
