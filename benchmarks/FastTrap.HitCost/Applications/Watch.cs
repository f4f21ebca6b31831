using FastTrap.Native;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>One way to look into a running application: begun before a round and ended after it.</summary>
internal abstract class Watch(string name, string command)
{
    public string Name { get; } = name;

    public string CommandLine { get; } = command;

    /// <summary>By what its probes stand.</summary>
    public virtual string Mechanism => "-";

    /// <summary>Why it is not to be had here; null: it is.</summary>
    public virtual string? Missing => null;

    /// <summary>The watching process.</summary>
    public abstract int ProcessId { get; }

    public abstract Task BeginAsync();

    /// <summary>Removes it; the hits that it saw.</summary>
    public abstract Task<long> EndAsync();
}

/// <summary>Nobody looks.</summary>
internal sealed class NoWatch() : Watch("nobody looks", "")
{
    public override int ProcessId => Environment.ProcessId;

    public override Task BeginAsync() => Task.CompletedTask;

    public override Task<long> EndAsync() => Task.FromResult(0L);
}

/// <summary>This library, attached to each process for the round alone.</summary>
internal sealed class LibraryWatch(string name, string command, Tracer tracer, Func<IReadOnlyList<int>> find, Func<TracedProcess, Task<(ProbeResult Result, Task Reading)>> enable) : Watch(name, command)
{
    private readonly List<TracedProcess> _processes = [];
    private readonly List<(ProbeResult Result, Task Reading)> _results = [];
    private string _mechanism = "-";

    public override string Mechanism => _mechanism;

    public override int ProcessId => Environment.ProcessId;

    /// <summary>Where its probe stands.</summary>
    public ulong Address { get; private set; }

    public override async Task BeginAsync()
    {
        foreach (int processId in find())
        {
            TracedProcess process = await tracer.AttachAsync(processId).ConfigureAwait(false);
            _processes.Add(process);
            _results.Add(await enable(process).ConfigureAwait(false));
        }

        ProbeResult any = _results[0].Result;
        _mechanism = any.Mechanisms is { Breakpoint: 0, InProcessTrap: 0 } ? "Jump" : $"{any.Mechanisms.Jump} Jump, {any.Mechanisms.InProcessTrap} InProcessTrap, {any.Mechanisms.Breakpoint} Breakpoint: " + string.Join("; ", any.Mechanisms.Reasons.Keys);
        Address = any.Enablings[0].Probes[0].Address;
    }

    public override async Task<long> EndAsync()
    {
        long hits = 0;
        foreach ((ProbeResult result, Task reading) in _results)
        {
            await result.DisposeAsync().ConfigureAwait(false);
            await reading.ConfigureAwait(false);
            hits += result.Count;
        }

        _results.Clear();
        foreach (TracedProcess process in _processes)
        {
            await process.DisposeAsync().ConfigureAwait(false);
        }

        _processes.Clear();
        return hits;
    }
}

/// <summary>bpftrace with a program of one line.</summary>
/// <param name="name">How the way is called.</param>
/// <param name="probe">The probe.</param>
/// <param name="action">What it does at a hit.</param>
/// <param name="output">The file for what it prints.</param>
/// <param name="place">A process and an address, at which the kernel's breakpoint will stand.</param>
internal sealed class BpftraceWatch(string name, string probe, string action, string output, Func<(int ProcessId, ulong Address)> place)
    : Watch(name, $"bpftrace -e '{probe} {{ {action} }}' > FILE")
{
    private const int SIGINT = 2;
    private const int PatienceMs = 60_000;
    private const int Attempts = 6;

    private TargetProcess? _bpftrace;

    public override string Mechanism => "uprobe";

    public override int ProcessId => _bpftrace?.ProcessId ?? throw new InvalidOperationException("It was not begun.");

    public override string? Missing => Command.Find("bpftrace") is null ? "missing: install bpftrace" : Posix.geteuid() != 0 ? "needs root" : null;

    public override Task BeginAsync()
    {
        byte[] before = ReadText();
        _bpftrace = TargetProcess.Start(Command.Find("bpftrace")!, ["-o", output, "-e", $"{probe} {{ {action} }}"]);
        long end = Environment.TickCount64 + PatienceMs;
        while (before.AsSpan().SequenceEqual(ReadText()))
        {
            if (_bpftrace.TryWaitForExit(TimeSpan.FromMilliseconds(10)) || Environment.TickCount64 > end)
            {
                throw new InvalidOperationException($"bpftrace does not attach: {string.Join(" | ", _bpftrace.Lines)} {_bpftrace.Errors}");
            }
        }

        return Task.CompletedTask;
    }

    public override Task<long> EndAsync()
    {
        if (_bpftrace is null)
        {
            return Task.FromResult(0L);
        }

        bool isEnded = false;
        for (int attempt = 0; attempt < Attempts && !isEnded; attempt++)
        {
            // Now and then it does not take notice of the first.
            _bpftrace.Signal(SIGINT);
            isEnded = _bpftrace.TryWaitForExit(TimeSpan.FromMilliseconds(PatienceMs / Attempts));
        }

        _bpftrace.Dispose();
        _bpftrace = null;
        long lines = isEnded ? File.ReadLines(output).LongCount() : 0;
        File.Delete(output);
        return Task.FromResult(lines);
    }

    private byte[] ReadText()
    {
        const int Length = 5;
        (int processId, ulong address) = place();
        byte[] text = new byte[Length];
        return LinuxPlatform.Instance.ReadMemory(processId, address, text) == Length ? text : throw new IOException("The target's text cannot be read.");
    }
}
