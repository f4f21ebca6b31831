using System.Diagnostics;
using System.Globalization;
using FastTrap.Symbols;
using Microsoft.Win32.SafeHandles;

namespace FastTrap.Tests.Symbols;

/// <summary>A running program that prints facts about itself and waits on its standard input; it is read, never traced.</summary>
internal sealed class LiveProgram : IDisposable
{
    private readonly Process _process;
    private readonly SafeFileHandle _memory;

    /// <summary>Starts the program and reads lines of "name value" up to the line "ready".</summary>
    public LiveProgram(string path, params string[] arguments)
    {
        _process = Process.Start(new ProcessStartInfo(path, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        for (string? line = _process.StandardOutput.ReadLine(); line != "ready"; line = _process.StandardOutput.ReadLine())
        {
            string[] words = (line ?? throw new InvalidOperationException($"{path} ended before it was ready")).Split(' ', 2);
            Facts.Add((words[0], words[1]));
        }

        _memory = File.OpenHandle($"/proc/{Id}/mem");
    }

    public int Id => _process.Id;

    /// <summary>What it printed.</summary>
    public List<(string Name, string Value)> Facts { get; } = [];

    /// <summary>An address which it printed.</summary>
    public ulong Address(string name) => Convert.ToUInt64(Facts.Single(f => f.Name == name).Value, 16);

    public bool ReadMemory(ulong address, Span<byte> buffer)
    {
        try
        {
            return RandomAccess.Read(_memory, buffer, (long)address) == buffer.Length;
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>A process's mappings, parsed here on purpose: the library's own parser is tested elsewhere.</summary>
    public static List<MappedRange> Mappings(int processId)
    {
        List<MappedRange> ranges = [];
        foreach (string line in File.ReadLines($"/proc/{processId}/maps"))
        {
            string[] fields = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries);
            string[] bounds = fields[0].Split('-');
            ranges.Add(new MappedRange(
                Convert.ToUInt64(bounds[0], 16), Convert.ToUInt64(bounds[1], 16), Convert.ToUInt64(fields[2], 16),
                fields[1][2] == 'x', fields[1][1] == 'w', fields.Length > 5 ? fields[5] : "", ulong.Parse(fields[4], CultureInfo.InvariantCulture), false));
        }

        return ranges;
    }

    /// <summary>Its modules.</summary>
    public ModuleMap Map(FilePlatform? platform = null, SymbolCache? cache = null, bool readsMemory = true) =>
        ModuleMap.Create(Mappings(Id), new ModuleOpener(platform ?? new FilePlatform(), Id, cache ?? new SymbolCache(), readsMemory ? ReadMemory : null));

    public void Dispose()
    {
        // The end of its input ends it.
        _process.StandardInput.Close();
        _process.WaitForExit();
        _memory.Dispose();
        _process.Dispose();
    }
}
