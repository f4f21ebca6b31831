using System.Diagnostics;
using System.Globalization;
using NUnit.Framework;

namespace FastTrap.Tests.Isa;

/// <summary>The text of a real library, its functions as its unwind tables list them, and its instructions as objdump does.</summary>
internal sealed class NativeText
{
    private readonly byte[] _file;
    private readonly List<(ulong Address, ulong Length, ulong FileOffset)> _segments = [];

    public NativeText(string path)
    {
        Path = path;
        _file = File.ReadAllBytes(path);
        int headers = (int)BitConverter.ToUInt64(_file, 32);
        int count = BitConverter.ToUInt16(_file, 56);
        for (int i = 0; i < count; i++)
        {
            int at = headers + (i * 56);
            if (BitConverter.ToUInt32(_file, at) == 1)
            {
                _segments.Add((BitConverter.ToUInt64(_file, at + 16), BitConverter.ToUInt64(_file, at + 32), BitConverter.ToUInt64(_file, at + 8)));
            }
        }

        foreach (string line in Output("readelf", "--debug-dump=frames", path))
        {
            int pc = line.IndexOf(" FDE ", StringComparison.Ordinal) < 0 ? -1 : line.IndexOf("pc=", StringComparison.Ordinal);
            if (pc > 0)
            {
                string[] ends = line[(pc + 3)..].Split("..");
                ulong start = Hex(ends[0]);
                ulong end = Hex(ends[1]);
                if (start > 0 && end > start && end - start < 1 << 20)
                {
                    Functions.Add((start, (int)(end - start)));
                }
            }
        }

        Functions.Sort();
    }

    public string Path { get; }

    public List<(ulong Address, int Length)> Functions { get; } = [];

    /// <summary>A library that this machine has, or null.</summary>
    public static string? Find(params ReadOnlySpan<string> candidates)
    {
        foreach (string candidate in candidates)
        {
            if (File.Exists(candidate))
            {
                return candidate;
            }
        }

        return null;
    }

    public ReadOnlySpan<byte> Bytes(ulong address, int length)
    {
        foreach ((ulong start, ulong size, ulong offset) in _segments)
        {
            if (address - start < size)
            {
                return _file.AsSpan((int)(address - start + offset), length);
            }
        }

        throw new ArgumentOutOfRangeException(nameof(address));
    }

    /// <summary>Addresses and words of instructions, with the bytes' text.</summary>
    public List<(ulong Address, string Text)> Disassemble(ulong start, ulong end)
    {
        List<(ulong, string)> found = [];
        foreach (string line in Output("objdump", "-d", "--no-show-raw-insn", $"--start-address=0x{start:x}", $"--stop-address=0x{end:x}", Path))
        {
            int colon = line.IndexOf(":\t", StringComparison.Ordinal);
            if (colon > 0 && line[0] == ' ')
            {
                found.Add((Hex(line[..colon].Trim()), line[(colon + 2)..]));
            }
        }

        return found;
    }

    private static ulong Hex(string text) => ulong.Parse(text.AsSpan().Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static IEnumerable<string> Output(string program, params string[] arguments)
    {
        // Not traced, so Process may start it.
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        process.ErrorDataReceived += static (_, _) => { };
        process.BeginErrorReadLine();
        while (process.StandardOutput.ReadLine() is { } line)
        {
            yield return line;
        }

        process.WaitForExit();

        // readelf ends with 1 when separate debug information, which is not wanted here, is missing.
        Assert.That(process.ExitCode, Is.LessThanOrEqualTo(1), program);
    }
}
