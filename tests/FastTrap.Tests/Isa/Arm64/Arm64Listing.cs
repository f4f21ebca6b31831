using System.Globalization;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Isa.Arm64;

/// <summary>One line of a disassembly.</summary>
internal readonly record struct Arm64Line(uint Word, string Mnemonic, string Operands);

/// <summary>Disassemblies by objdump (package binutils-aarch64-linux-gnu).</summary>
internal static class Arm64Listing
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    /// <summary>Words which stand one behind the other from address 0.</summary>
    public static Dictionary<ulong, Arm64Line> OfWords(ReadOnlySpan<byte> words)
    {
        using PrivateDirectory directory = new("arm64 words");
        string file = directory["words"];
        File.WriteAllBytes(file, words);
        return Run("-D", "-z", "-b", "binary", "-m", "aarch64", file);
    }

    /// <summary>A range of a library.</summary>
    public static Dictionary<ulong, Arm64Line> OfFile(string path, ulong start, ulong end) =>
        Run("-d", "-z", $"--start-address=0x{start:x}", $"--stop-address=0x{end:x}", path);

    /// <summary>The address that a direct branch, or a load of a literal, names as its last operand.</summary>
    public static ulong TargetOf(Arm64Line line)
    {
        string last = line.Operands.Split(' ')[0].Split(',')[^1];
        last = last.StartsWith("0x", StringComparison.Ordinal) ? last[2..] : last;
        return ulong.Parse(last, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    private static Dictionary<ulong, Arm64Line> Run(params string[] arguments)
    {
        string? objdump = Command.Find("aarch64-linux-gnu-objdump");
        if (objdump is null)
        {
            Assert.Ignore("aarch64-linux-gnu-objdump is not installed: eng/needs.sh installs it.");
        }

        Dictionary<ulong, Arm64Line> lines = [];
        foreach (string line in Command.Run(objdump, arguments, s_patience).Output.Split('\n'))
        {
            // "  26b10:<tab>d503201f <tab>nop<tab>operands // remark".
            string[] columns = line.Split('\t');
            if (columns.Length >= 3 && columns[0].EndsWith(':')
                && ulong.TryParse(columns[0].AsSpan().Trim().TrimEnd(':'), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong address))
            {
                string operands = columns.Length > 3 ? columns[3].Replace(", ", ",", StringComparison.Ordinal) : "";
                lines[address] = new Arm64Line(uint.Parse(columns[1].Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture), columns[2].Trim(), operands);
            }
        }

        return lines;
    }
}
