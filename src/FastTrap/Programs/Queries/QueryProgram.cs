using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using FastTrap.Control;
using FastTrap.Engine;
using FastTrap.Engine.Mechanisms;
using FastTrap.Native;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap.Programs;

/// <summary>A query's program as code for the target, with the memory into which it gathers.</summary>
/// <remarks>
/// The control thread makes the memory, compiles, and keeps the list of mechanisms, which others read under its lock. The memory is unmapped in the target when no thread is in the code any more; here it stays as long as somebody can ask for what is in it.
/// </remarks>
internal sealed class QueryProgram(ProbeProgram program, ProgramAction action, ProbeMechanism mechanism, int ringLength, string? noCodeReason) : ISiteProgram
{
    private readonly Lock _gate = new();
    private readonly Dictionary<ulong, (ProbeMechanism Mechanism, string? Reason)> _armed = [];
    private readonly List<EnabledProbe> _sites = [];
    private volatile SharedRegion? _region;
    private ProgramCompiler? _compiler;
    private IPlatform? _platform;
    private long _read;
    private long _readIncomplete;
    private int _isReading;

    public ProbeMechanism Mechanism { get; } = mechanism;

    public ProbeMechanisms Mechanisms
    {
        get
        {
            lock (_gate)
            {
                int jumps = _armed.Values.Count(a => a.Mechanism == ProbeMechanism.Jump);
                return new ProbeMechanisms(
                    jumps, _armed.Count - jumps, _armed.Values.Where(a => a.Reason is not null).GroupBy(a => a.Reason!).ToDictionary(g => g.Key, g => g.Count()));
            }
        }
    }

    /// <summary>Hits that passed the filter.</summary>
    public long Hits => action.Kind switch
    {
        ProgramActionKind.Count => (long)Read(0, 1),
        ProgramActionKind.Sum => (long)(Read(ProgramAction.SumHits, 1) + Read(ProgramAction.SumIncomplete, 1)),
        ProgramActionKind.Histogram => (long)Read(0, action.CounterCount),
        _ => Volatile.Read(ref _read) + Drops,
    };

    /// <summary>Those among them that had no value.</summary>
    public long Incomplete => action.Kind switch
    {
        ProgramActionKind.Sum => (long)Read(ProgramAction.SumIncomplete, 1),
        ProgramActionKind.Histogram => (long)Read(action.CounterCount - 1, 1),
        ProgramActionKind.Record => Volatile.Read(ref _readIncomplete),
        _ => 0,
    };

    /// <summary>Records that found no room.</summary>
    public long Drops => ringLength != 0 && _region is { } region ? (long)region.CountDrops() : 0;

    /// <summary>The sum with its least and greatest; of a count each is 1.</summary>
    public LaneSum Sum
    {
        get
        {
            if (_region is not { } region)
            {
                return new LaneSum(0, 0, long.MaxValue, long.MinValue);
            }

            if (action.Kind == ProgramActionKind.Count)
            {
                long count = (long)Read(0, 1);
                return new LaneSum(count, count, count == 0 ? long.MaxValue : 1, count == 0 ? long.MinValue : 1);
            }

            ulong least = 0;
            ulong greatest = 0;
            for (int lane = 0; lane <= region.Layout.LaneCount; lane++)
            {
                least = Math.Max(least, ReadWord(region, lane, ProgramAction.SumLeast));
                greatest = Math.Max(greatest, ReadWord(region, lane, ProgramAction.SumGreatest));
            }

            return new LaneSum(
                (long)Read(ProgramAction.SumHits, 1), (long)Read(ProgramAction.SumTotal, 1),
                least == 0 ? long.MaxValue : ProgramAction.DecodeLeast(least), greatest == 0 ? long.MinValue : ProgramAction.DecodeGreatest(greatest));
        }
    }

    /// <summary>Adds the steps of a histogram.</summary>
    public void AddSteps(long[] counts)
    {
        if (_region is { } region)
        {
            Span<ulong> totals = new ulong[counts.Length];
            CounterSnapshot.Add(region, 0, totals);
            for (int i = 0; i < counts.Length; i++)
            {
                counts[i] += (long)totals[i];
            }
        }
    }

    /// <summary>A reader of its records; null if there can be none.</summary>
    /// <exception cref="InvalidOperationException">There is one.</exception>
    public QueryReader? BeginReading()
    {
        if (ringLength == 0 || _region is not { } region)
        {
            return null;
        }

        return Interlocked.Exchange(ref _isReading, 1) == 0
            ? new QueryReader(this, region, _platform!)
            : throw new InvalidOperationException("Somebody reads these records already; they have one reader at a time.");
    }

    public void EndReading() => Volatile.Write(ref _isReading, 0);

    public void CountRead(bool isComplete)
    {
        Volatile.Write(ref _read, _read + 1);
        if (!isComplete)
        {
            Volatile.Write(ref _readIncomplete, _readIncomplete + 1);
        }
    }

    /// <summary>The probe of a record; null of a number that is none.</summary>
    public Probe? FindProbe(uint site)
    {
        lock (_gate)
        {
            return site < (uint)_sites.Count ? _sites[(int)site].Probe : null;
        }
    }

    public string? Prepare(Proc proc)
    {
        if (noCodeReason is not null || _compiler is not null)
        {
            return noCodeReason;
        }

        ProcessHandle process = proc.Process;
        _platform = process.Platform;
        if (process.Architecture != Architecture.X64)
        {
            return "there is code for x86-64 only";
        }

        if (!Auxv.TryRead(_platform, process.ProcessId, out Auxv auxv, out _) || !auxv.HasReadFsBase)
        {
            return "programs cannot read their thread pointer on this machine (no FSGSBASE)";
        }

        LaneLayout layout = new(action.CounterCount * sizeof(ulong), ringLength);
        SharedRegion? region = null;
        SharedMemoryFailure failure = default;
        ulong pointer = 0;
        int threadId = 0;
        bool isBorrowed = process.Thread.TryBorrow(process, task =>
        {
            threadId = task.ThreadId;
            _ = RemoteMap.TryReadThreadPointer(process, task, out pointer);
            SharedRegion.TryCreate(process, task, layout, [], out region, out failure);
        });
        if (failure.LeftStart != 0)
        {
            proc.Jump.AddShared((failure.LeftStart, failure.LeftLength));
        }

        if (region is null)
        {
            return isBorrowed ? $"memory to share with the process could not be had: {failure.Describe()}" : "no thread of the process could be stopped to map memory";
        }

        proc.Jump.AddShared(region.Mapped);
        int ownThreadId = OwnId(process.ProcessId, threadId);
        bool isThreadIdKnown = ThreadIdOffset.TryFind(_platform, process.ProcessId, [new ThreadSample(ownThreadId, pointer)], out int offset);
        _compiler = new ProgramCompiler(program, action, new ProgramTarget
        {
            Architecture = Architecture.X64,
            Layout = layout,
            RegionAddress = region.Address,
            ProcessId = process.ProcessId,
            OwnProcessId = OwnId(process.ProcessId, process.ProcessId),
            HasReadFsBase = true,
            ThreadIdOffset = isThreadIdKnown ? offset : null,
            HasReadProcessorId = HasFlag("rdpid"),
            // A thread may install a filter at any time, and be killed for a system call that is not its own: only who asks for it has that.
            AllowsSystemCalls = Mechanism == ProbeMechanism.Jump && process.Tasks.Values.All(t => IsUnfiltered(process.ProcessId, t)),
            Ticks = TickClock.Read(_platform),
        });
        _region = region;
        return null;
    }

    public bool TryCompile(EnabledProbe enabled, Tracepoint tracepoint, [NotNullWhen(true)] out byte[]? code, out string reason)
    {
        Probe probe = enabled.Probe;
        ArgumentSources sources = probe.Kind switch
        {
            ProbeKind.Return => ArgumentSources.ForReturn(Architecture.X64),
            ProbeKind.Static => ArgumentSources.ForStatic(probe.ArgumentsAt(tracepoint.Address)),
            _ when probe.Details is { Arguments.Count: > 0 } details => ArgumentSources.ForEntry(Architecture.X64, details.NativeIndex),
            _ => ArgumentSources.ForEntry(Architecture.X64),
        };
        if (!_compiler!.TryCompile(sources, out CompiledBody? body, out ProgramNotCompilable problem))
        {
            code = null;
            reason = problem == ProgramNotCompilable.SystemCallsFiltered && Mechanism == ProbeMechanism.Auto
                ? "it reads memory by system calls of the probed threads, for which a seccomp filter might kill them; ask for ProbeMechanism.Jump if the program installs none"
                : ProgramCompiler.Describe(problem);
            return false;
        }

        uint id;
        lock (_gate)
        {
            id = (uint)_sites.Count;
            _sites.Add(enabled);
        }

        code = new byte[body.Length];
        body.Write(code, new BodySite(id, tracepoint.Address, probe.FunctionAddress));
        reason = "";
        return true;
    }

    public void OnArmed(EnabledProbe enabled, ulong address, ProbeMechanism armedBy, string? reason)
    {
        lock (_gate)
        {
            _armed[address] = (armedBy, reason);
        }
    }

    public void OnRemoved(Proc proc, bool isQuiet)
    {
        if (_region is { } region && isQuiet)
        {
            Errno error = Errno.ESRCH;
            if (proc.Process.Thread.TryBorrow(proc.Process, task => error = region.Remove(proc.Process, task)) && error == Errno.None)
            {
                proc.Jump.RemoveShared(region.Mapped);
            }
        }
    }

    /// <summary>A process's or thread's id as it is in its own pid namespace.</summary>
    private int OwnId(int processId, int threadId) =>
        ProcStatus.TryReadThread(_platform!, processId, threadId, out ProcStatus? status, out _) && status!.NSpid.Count != 0 ? status.NSpid[^1] : threadId;

    /// <summary>Whether a thread has no seccomp filter: each may have its own.</summary>
    private bool IsUnfiltered(int processId, TracedTask task) =>
        ProcStatus.TryReadThread(_platform!, task.IsVisitor ? task.ThreadId : processId, task.ThreadId, out ProcStatus? status, out _) && status!.Seccomp == 0;

    private bool HasFlag(string flag) =>
        _platform!.ReadProcFile("/proc/cpuinfo", out _) is { } text && System.Text.Encoding.ASCII.GetString(text).Contains($" {flag}", StringComparison.Ordinal);

    private ulong Read(int first, int count)
    {
        if (_region is not { } region)
        {
            return 0;
        }

        Span<ulong> totals = new ulong[count];
        CounterSnapshot.Add(region, first, totals);
        ulong sum = 0;
        foreach (ulong total in totals)
        {
            sum += total;
        }

        return sum;
    }

    private static ulong ReadWord(SharedRegion region, int lane, int word) =>
        Volatile.Read(ref region.Word(lane, LaneLayout.CountersStart + (word * sizeof(ulong))));
}

/// <summary>Reads the records that a query's code has written, in the order of their times. One thread at a time.</summary>
internal sealed class QueryReader : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(50);

    private readonly QueryProgram _program;
    private readonly CounterClock _clock;
    private readonly LaneReader _reader;
    private readonly MergedReader _merged;

    public QueryReader(QueryProgram program, SharedRegion region, IPlatform platform)
    {
        _program = program;
        _clock = new CounterClock(platform);
        _reader = new LaneReader(region);
        _merged = new MergedReader(_reader, _clock, s_patience);
    }

    /// <summary>No program runs any more.</summary>
    public void ReadToEnd() => _reader.ReadToEnd();

    /// <summary>The next record, valid until the next call.</summary>
    public bool TryRead(out LaneRecord record, [NotNullWhen(true)] out Probe? probe, out long timestampNs)
    {
        while (_merged.TryRead(out record))
        {
            probe = _program.FindProbe(record.Site);
            if (probe is not null)
            {
                timestampNs = _clock.ToNanoseconds(record.Time);
                return true;
            }
        }

        probe = null;
        timestampNs = 0;
        return false;
    }

    public void CountRead(bool isComplete) => _program.CountRead(isComplete);

    public void Dispose()
    {
        _merged.Dispose();
        _program.EndReading();
    }
}
