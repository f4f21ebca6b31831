using System.Globalization;
using System.Runtime.InteropServices;

namespace FastTrap.Tests.TestKit;

/// <summary>Which instruction of a function the kernel's own probe takes.</summary>
public enum UprobeSite
{
    /// <summary>The first.</summary>
    Entry,

    /// <summary>The second, which leaves the first to the library: both cannot have a breakpoint on one instruction.</summary>
    SecondInstruction,
}

/// <summary>
/// Counts the calls of a function by the kernel's uprobes (perf events, no tool needed): an oracle that knows nothing of ptrace. Needs root.
/// </summary>
/// <remarks>
/// Of a process it counts the threads there are when it is attached. (Inherited by later threads, the kernel's breakpoint killed the target with
/// SIGTRAP when one of them ended, on Linux 6.18.) For programs that start threads use <see cref="AttachEverywhere"/>.
/// The kernel's breakpoints stand in the text: dispose this before <see cref="TextCheck"/>.
/// </remarks>
internal sealed unsafe class UprobeOracle : IDisposable
{
    private const string Source = "/sys/bus/event_source/devices/uprobe/type";
    private const int AttributesLength = 112;
    private readonly List<int> _events = [];

    private UprobeOracle()
    {
    }

    /// <summary>Calls so far.</summary>
    public long Count
    {
        get
        {
            long sum = 0;
            Span<byte> value = stackalloc byte[8];
            foreach (int descriptor in _events)
            {
                Assert.That(Posix.Read(descriptor, value), Is.EqualTo(8));
                sum += MemoryMarshal.Read<long>(value);
            }

            return sum;
        }
    }

    /// <summary>Begins to count a process's present threads; skips the test where uprobes are not to be had.</summary>
    public static UprobeOracle Attach(int processId, string path, string function, UprobeSite site = UprobeSite.Entry) =>
        Make(path, function, site, Directory.GetDirectories($"/proc/{processId}/task").Select(thread => (ThreadId: Number(thread), Cpu: -1)));

    /// <summary>
    /// Begins to count in all processes that run this file, now or later; skips the test where uprobes are not to be had. Not for files which
    /// others use too, such as libc: their calls would count.
    /// </summary>
    public static UprobeOracle AttachEverywhere(string path, string function, UprobeSite site = UprobeSite.Entry) =>
        Make(path, function, site, Enumerable.Range(0, Environment.ProcessorCount).Select(cpu => (ThreadId: -1, Cpu: cpu)));

    /// <summary>
    /// Begins to count a static probe in a process's present threads, by its one note as binutils read it; the kernel raises its semaphore meanwhile.
    /// </summary>
    public static UprobeOracle AttachToNote(int processId, string path, string name)
    {
        SkipWithoutUprobes();
        (ulong address, ulong semaphore) = ElfTools.StaticProbe(path, name);
        UprobeOracle oracle = new();
        try
        {
            foreach (string thread in Directory.GetDirectories($"/proc/{processId}/task"))
            {
                oracle.Open(Number(thread), -1, path, ElfTools.FileOffset(path, address), semaphore == 0 ? 0 : ElfTools.FileOffset(path, semaphore));
            }

            return oracle;
        }
        catch
        {
            oracle.Dispose();
            throw;
        }
    }

    private static int Number(string path) => int.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture);

    private static UprobeOracle Make(string path, string function, UprobeSite site, IEnumerable<(int ThreadId, int Cpu)> places)
    {
        SkipWithoutUprobes();
        long offset = SiteOffset(path, function, site);
        UprobeOracle oracle = new();
        try
        {
            foreach ((int threadId, int cpu) in places)
            {
                oracle.Open(threadId, cpu, path, offset);
            }

            return oracle;
        }
        catch
        {
            oracle.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        _events.ForEach(Posix.Close);
        _events.Clear();
    }

    private static void SkipWithoutUprobes()
    {
        if (Posix.geteuid() != 0 || !File.Exists(Source))
        {
            Assert.Ignore("The kernel's uprobes need root, and a kernel with CONFIG_UPROBES.");
        }
    }

    private static long SiteOffset(string path, string function, UprobeSite site)
    {
        ElfSymbol symbol = ElfTools.Function(path, function);
        if (site == UprobeSite.Entry)
        {
            return symbol.FileOffset;
        }

        IReadOnlyList<(ulong Address, string Text)> instructions = ElfTools.Instructions(path, symbol.Address, Math.Min(symbol.Length, 32));
        string first = instructions[0].Text;
        if (first.StartsWith('j') || first.StartsWith("call", StringComparison.Ordinal) || first.StartsWith("ret", StringComparison.Ordinal))
        {
            throw new InvalidOperationException($"{function} begins with '{first}': its second instruction is not reached by each call.");
        }

        return symbol.FileOffset + (long)(instructions[1].Address - symbol.Address);
    }

    private void Open(int threadId, int cpu, string path, long offset, long semaphoreOffset = 0)
    {
        byte* attributes = stackalloc byte[AttributesLength];
        new Span<byte>(attributes, AttributesLength).Clear();
        nint name = Marshal.StringToCoTaskMemUTF8(path);
        try
        {
            // struct perf_event_attr of linux/perf_event.h: type, size, config with ref_ctr_offset in its upper half, uprobe_path, probe_offset.
            *(uint*)attributes = uint.Parse(File.ReadAllText(Source), CultureInfo.InvariantCulture);
            *(uint*)(attributes + 4) = AttributesLength;
            *(ulong*)(attributes + 8) = (ulong)semaphoreOffset << 32;
            *(nint*)(attributes + 56) = name;
            *(long*)(attributes + 64) = offset;
            int descriptor = Posix.OpenPerfEvent(attributes, threadId, cpu);
            int error = Marshal.GetLastPInvokeError();
            if (descriptor < 0)
            {
                throw new IOException($"perf_event_open of a uprobe at {path}+{offset:x}: {Marshal.GetPInvokeErrorMessage(error)}", error);
            }

            _events.Add(descriptor);
        }
        finally
        {
            Marshal.FreeCoTaskMem(name);
        }
    }
}
