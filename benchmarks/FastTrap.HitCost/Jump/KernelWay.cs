using System.Globalization;
using System.Runtime.InteropServices;
using FastTrap.Native;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>What the kernel's breakpoint stands on, and whether it stands.</summary>
internal abstract class UprobeWay(string name) : HitWay(name)
{
    private const int PatienceMs = 30_000;
    private const int JumpLength = 5;

    private ulong _address;

    protected bool IsReturn => Kind == "ret";

    /// <summary>Where the kernel's breakpoint will stand: its place in the file.</summary>
    protected long FindOffset()
    {
        Target.SendLine($"{Kind} where 0 0");
        string[] words = Target.ReadLine()!.Split(' ');
        _address = ulong.Parse(words[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        return long.Parse(words[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    protected byte[] ReadText()
    {
        byte[] text = new byte[JumpLength];
        return LinuxPlatform.Instance.ReadMemory(Target.ProcessId, _address, text) == text.Length ? text : throw new IOException("The target's text cannot be read.");
    }

    protected void WaitForChange(byte[] before, TargetProcess tool)
    {
        long end = Environment.TickCount64 + PatienceMs;
        while (before.AsSpan().SequenceEqual(ReadText()))
        {
            if (tool.TryWaitForExit(TimeSpan.FromMilliseconds(1)) || Environment.TickCount64 > end)
            {
                throw new InvalidOperationException($"{Name} does not attach: {string.Join(" | ", tool.Lines)} {tool.Errors}");
            }
        }
    }
}

/// <summary>The kernel's uprobes without a tool: a perf event which counts.</summary>
internal sealed unsafe class KernelWay() : UprobeWay(HitTables.Kernel)
{
    private const string Source = "/sys/bus/event_source/devices/uprobe/type";
    private const int AttributesLength = 112;

    private readonly List<int> _events = [];

    public override string CommandLine => "perf_event_open of type uprobe, a counter for each CPU; no tool";

    protected override string? Missing() => Kind == "trap" ? "not probed" : Posix.geteuid() != 0 ? "needs root" : File.Exists(Source) ? null : "a kernel without uprobes";

    protected override Task<bool> AttachAsync()
    {
        long offset = FindOffset();

        // For each CPU: the threads of a round are born after this.
        for (int cpu = 0; cpu < Environment.ProcessorCount; cpu++)
        {
            Open(cpu, offset);
        }

        return Task.FromResult(true);
    }

    protected override bool CountsHits => true;

    protected override long CountHits()
    {
        long sum = 0;
        Span<byte> value = stackalloc byte[sizeof(long)];
        foreach (int descriptor in _events)
        {
            sum += Posix.Read(descriptor, value) == value.Length ? MemoryMarshal.Read<long>(value) : 0;
        }

        return sum;
    }

    public override ValueTask DisposeAsync()
    {
        _events.ForEach(Posix.Close);
        return base.DisposeAsync();
    }

    private void Open(int cpu, long offset)
    {
        byte* attributes = stackalloc byte[AttributesLength];
        new Span<byte>(attributes, AttributesLength).Clear();
        nint path = Marshal.StringToCoTaskMemUTF8(ProgramPath);

        // struct perf_event_attr of linux/perf_event.h: type, size, config (bit 0: at the return), uprobe_path, probe_offset.
        *(uint*)attributes = uint.Parse(File.ReadAllText(Source), CultureInfo.InvariantCulture);
        *(uint*)(attributes + 4) = AttributesLength;
        *(ulong*)(attributes + 8) = IsReturn ? 1UL : 0;
        *(nint*)(attributes + 56) = path;
        *(long*)(attributes + 64) = offset;
        int descriptor = Posix.OpenPerfEvent(attributes, -1, cpu);
        int error = Marshal.GetLastPInvokeError();
        Marshal.FreeCoTaskMem(path);
        if (descriptor < 0)
        {
            throw new IOException($"perf_event_open: {Marshal.GetPInvokeErrorMessage(error)}", error);
        }

        _events.Add(descriptor);
    }
}

/// <summary>bpftrace that counts.</summary>
internal sealed class BpftraceWay() : UprobeWay(HitTables.Bpftrace)
{
    private TargetProcess? _bpftrace;

    public override string CommandLine => "bpftrace -p PID -e 'uprobe:PROGRAM:FUNCTION { @ = count(); }' (uretprobe:, usdt:PROGRAM:trampolines:hit)";

    protected override string? Missing() =>
        Kind == "trap" ? "not probed" : Posix.geteuid() != 0 ? "needs root" : Command.Find("bpftrace") is null ? "missing: install bpftrace" : null;

    protected override Task<bool> AttachAsync()
    {
        string path = Command.Find("bpftrace")!;
        _ = FindOffset();
        byte[] before = ReadText();
        string probe = Kind == "usdt" ? $"usdt:{ProgramPath}:trampolines:hit" : $"{(IsReturn ? "uretprobe" : "uprobe")}:{ProgramPath}:hot_{Kind}";
        _bpftrace = TargetProcess.Start(path, ["-p", $"{Target.ProcessId}", "-e", probe + " { @ = count(); }"]);
        WaitForChange(before, _bpftrace);
        return Task.FromResult(true);
    }

    public override ValueTask DisposeAsync()
    {
        _bpftrace?.Dispose();
        return base.DisposeAsync();
    }
}
