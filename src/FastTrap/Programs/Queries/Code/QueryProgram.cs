using System.Buffers;
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
internal sealed partial class QueryProgram(ProbeProgram program, ProgramAction action, ProbeMechanism mechanism, int ringLength, string? noCodeReason, int enablings = 1) : ISiteProgram
{
    private static readonly System.Collections.Concurrent.ConcurrentDictionary<string, bool> s_flags = new();

    private readonly Lock _gate = new();
    private readonly Dictionary<ulong, (ProbeMechanism Mechanism, string? Reason)> _armed = [];
    private readonly List<EnabledProbe> _sites = [];
    private readonly Dictionary<(EnabledProbe Enabled, ulong Address), uint> _ids = [];
    private readonly List<ulong> _addresses = [];
    private volatile SharedRegion? _region;
    private ProgramCompiler? _compiler;
    private ProgramTarget? _target;
    private ArgumentSources? _sources;
    private double? _predicted;
    private Proc? _proc;
    private IPlatform? _platform;
    private HeldWord? _word;
    private bool _isRead;
    private string _readProblem = "";
    private long _read;
    private long _readIncomplete;
    private int _isReading;
    private int _enablings = enablings;
    private bool _isQuiet = true;

    public ProbeMechanism Mechanism { get; } = mechanism;

    public bool NeedsTracer => _word is not null;

    public bool MayBeCode => Mechanism != ProbeMechanism.Breakpoint && noCodeReason is null;

    public ProbeMechanisms Mechanisms
    {
        get
        {
            lock (_gate)
            {
                int jumps = _armed.Values.Count(a => a.Mechanism == ProbeMechanism.Jump);
                int traps = _armed.Values.Count(a => a.Mechanism == ProbeMechanism.InProcessTrap);
                return new ProbeMechanisms(
                    jumps, traps, _armed.Count - jumps - traps, _armed.Values.Where(a => a.Reason is not null).GroupBy(a => a.Reason!).ToDictionary(g => g.Key, g => g.Count()));
            }
        }
    }

    /// <summary>Nanoseconds of a hit in the code of the first site, executed in the tracer when it is asked for first; null: there is no code.</summary>
    public double? PredictedNs
    {
        get
        {
            ArgumentSources? sources;
            lock (_gate)
            {
                sources = _sources;
            }

            if (_predicted is null && sources is not null && _platform is { } platform && _target is { } target)
            {
                _predicted = BodyTimer.Time(platform, program, action, target, sources);
            }

            return _predicted;
        }
    }

    /// <summary>Nanoseconds of a hit by an in-process trap where nobody traces: the signal's, and the code's.</summary>
    public double? PredictedTrapNs => PredictedNs is { } code && TrapTimer.Time(_platform!) is { } signal ? code + signal : null;

    /// <summary>Hits that passed the filter.</summary>
    public long Hits => action.Kind switch
    {
        ProgramActionKind.Count => (long)Read(0, 1),
        ProgramActionKind.CountBySite => SiteCounts.Sum(CountSites()),
        ProgramActionKind.Sum => (long)(Read(ProgramAction.SumHits, 1) + Read(ProgramAction.SumIncomplete, 1)),
        ProgramActionKind.Histogram => (long)Read(0, action.CounterCount),
        ProgramActionKind.CountBy => CountKeyHits(),
        ProgramActionKind.Latency => (long)Read(CallStack.EntriesWord, 1),
        _ => Volatile.Read(ref _read) + Drops,
    };

    /// <summary>Those among them that had no value.</summary>
    public long Incomplete => action.Kind switch
    {
        ProgramActionKind.Sum => (long)Read(ProgramAction.SumIncomplete, 1),
        ProgramActionKind.Histogram => (long)Read(action.CounterCount - 1, 1),
        ProgramActionKind.CountBy => (long)Read(KeyTable.IncompleteWord, 1),
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

            (long least, long greatest) = ReadExtremes(region, ProgramAction.SumLeast, ProgramAction.SumGreatest);
            return new LaneSum((long)Read(ProgramAction.SumHits, 1), (long)Read(ProgramAction.SumTotal, 1), least, greatest);
        }
    }

    /// <summary>The memory that it shares with the target, once it is there.</summary>
    public SharedRegion? Region => _region;

    /// <summary>The times of calls, in nanoseconds.</summary>
    public LaneSum Times
    {
        get
        {
            if (_region is not { } region)
            {
                return new LaneSum(0, 0, long.MaxValue, long.MinValue);
            }

            (long least, long greatest) = ReadExtremes(region, CallStack.LeastWord, CallStack.GreatestWord);
            return new LaneSum(
                (long)Read(CallStack.StepsWord, CallStack.StepCount), ToNs(Read(CallStack.TotalWord, 1)),
                least == long.MaxValue ? least : ToNs((ulong)least), greatest == long.MinValue ? greatest : ToNs((ulong)greatest));
        }
    }

    /// <summary>Calls that could not be timed.</summary>
    public long LostCalls => (long)Read(CallStack.LostWord, 1);

    /// <summary>Hits whose key had no room.</summary>
    public long OtherKeys => (long)Read(KeyTable.OthersWord, 1);

    /// <summary>The processor's ticks now, by which code takes its times.</summary>
    public ulong ReadTicks() => _platform!.ReadClocks(out ClockSample now) == Errno.None ? now.Counter : 0;

    /// <summary>A distance of ticks as nanoseconds.</summary>
    public long ToNs(ulong ticks) => (TickClock.Read(_platform!) is { } scale ? scale with { BaseTicks = 0, BaseNs = 0 } : default).ToNs(ticks);

    /// <summary>Adds counts by key.</summary>
    public void AddKeys(Dictionary<ulong, long> counts)
    {
        if (_region is { } region)
        {
            region.ForEachUsed(words => action.Keys!.AddTo(counts, words));
        }
    }

    /// <summary>Adds the steps of a histogram.</summary>
    public void AddSteps(long[] counts)
    {
        if (_region is { } region)
        {
            Span<ulong> totals = new ulong[counts.Length];
            CounterSnapshot.Add(region, action.Calls is null ? 0 : CallStack.StepsWord, totals);
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

    public bool IsReading => Volatile.Read(ref _isReading) != 0;

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

    public string? Prepare(Proc proc, int sites)
    {
        if (noCodeReason is not null || _compiler is not null)
        {
            return noCodeReason;
        }

        ProcessHandle process = proc.Process;
        _proc = proc;
        _platform = process.Platform;
        if (process.Architecture != Architecture.X64)
        {
            return "there is code for x86-64 only";
        }

        if (!Auxv.TryRead(_platform, process.ProcessId, out Auxv auxv, out _) || !auxv.HasReadFsBase)
        {
            return "programs cannot read their thread pointer on this machine (no FSGSBASE)";
        }

        if (action.Kind == ProgramActionKind.CountBySite)
        {
            // Of a standing query more will come; the memory is that of counters which are used.
            action = ProgramAction.CountBySite(SiteCounts.CapacityFor(sites));
        }

        int counters = action.CounterCount * sizeof(ulong);
        LaneLayout layout = new(counters, ringLength, LaneLayout.LanesFor(counters));
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
        _target = new ProgramTarget
        {
            Architecture = Architecture.X64,
            Layout = layout,
            RegionAddress = region.Address,
            ProcessId = process.ProcessId,
            OwnProcessId = OwnId(process.ProcessId, process.ProcessId),
            HasReadFsBase = true,
            HasThreadPointerWord = HasOwnAddress(process.ProcessId, pointer),
            ThreadIdOffset = isThreadIdKnown ? offset : null,
            HasReadProcessorId = HasFlag("rdpid"),

            // A thread may install a filter at any time, and be killed for a system call that is not its own: only who asks for it has that.
            AllowsSystemCalls = Mechanism is ProbeMechanism.Jump or ProbeMechanism.InProcessTrap && process.Tasks.Values.All(t => IsUnfiltered(process.ProcessId, t)),
            Ticks = TickClock.Read(_platform),
        };
        _compiler = new ProgramCompiler(program, action, _target);
        _region = region;
        lock (_gate)
        {
            _ids.EnsureCapacity(sites);
            _sites.EnsureCapacity(sites);
            _addresses.EnsureCapacity(sites);
            _armed.EnsureCapacity(sites);
        }

        return null;
    }

    public bool TryCompile(EnabledProbe enabled, Tracepoint tracepoint, IBufferWriter<byte> code, out string reason)
    {
        Probe probe = enabled.Probe;
        ArgumentSources sources = probe.Kind switch
        {
            ProbeKind.Return => ArgumentSources.ForReturn(Architecture.X64),
            ProbeKind.Static => ArgumentSources.ForStatic(probe.ArgumentsAt(tracepoint.Address)),
            _ when probe.Details is { Arguments.Count: > 0 } details => ArgumentSources.ForEntry(Architecture.X64, details.NativeIndex),
            _ => ArgumentSources.ForEntry(Architecture.X64),
        };
        if (!_compiler!.TryCompile(sources, out CompiledBody? body, out ProgramNotCompilable problem)
            && !(problem == ProgramNotCompilable.SystemCallsFiltered && TryReadDirectly() && _compiler.TryCompile(sources, out body, out problem)))
        {
            reason = problem == ProgramNotCompilable.SystemCallsFiltered && Mechanism == ProbeMechanism.Auto
                ? $"its code would make system calls by the probed threads, for which a seccomp filter might kill them{_readProblem}; ask for ProbeMechanism.Jump if the program installs none"
                : ProgramCompiler.Describe(problem);
            return false;
        }

        uint id;
        lock (_gate)
        {
            // A site whose trampoline is made anew keeps its number.
            bool isNew = !_ids.TryGetValue((enabled, tracepoint.Address), out id);
            id = isNew ? (uint)_sites.Count : id;
            if (action.Kind == ProgramActionKind.CountBySite && id >= (uint)action.CounterCount)
            {
                reason = "its process has more probed instructions than there are counters for";
                return false;
            }

            if (isNew)
            {
                _sites.Add(enabled);
                _addresses.Add(tracepoint.Address);
                _ids.Add((enabled, tracepoint.Address), id);
            }

            _sources ??= sources;
        }

        // At the start of what is no function, no frame is missing.
        ulong function = probe.Kind == ProbeKind.Static && probe.Function.Length == 0 ? 0 : probe.FunctionAddress;
        body!.Write(code.GetSpan(body.Length)[..body.Length], new BodySite(id, tracepoint.Address, function));
        code.Advance(body.Length);
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
        _isQuiet &= isQuiet;
        if (--_enablings != 0)
        {
            return;
        }

        if (_word is not null)
        {
            proc.Jump.ReleaseWord(_word);
        }

        if (_region is { } region && _isQuiet)
        {
            Errno error = Errno.ESRCH;
            if (proc.Process.Thread.TryBorrow(proc.Process, task => error = region.Remove(proc.Process, task)) && error == Errno.None)
            {
                proc.Jump.RemoveShared(region.Mapped);
            }
        }
    }

    /// <summary>From now on code reads memory as it is, for as long as this tracer is there to mend what faults. False if that cannot be had, or is so already.</summary>
    private bool TryReadDirectly()
    {
        if (Mechanism != ProbeMechanism.Auto || _isRead)
        {
            return false;
        }

        // Once: what cannot be had for one site cannot for the others.
        _isRead = true;
        if (!_proc!.Process.Thread.PrepareForFaults(_proc.Process))
        {
            _readProblem = " (and the program ignores SIGSEGV or SIGBUS, which a load that faults would end)";
            return false;
        }

        if (_proc.IsGone || _platform!.Hold(_region!.Memory, 0, out _word) != Errno.None)
        {
            return false;
        }

        _proc.Jump.AddWord(_word!);
        _target = _target! with { TracerWord = _region.Address + (ulong)(LaneLayout.TracerWordOffset + (_word!.Index * sizeof(int))) };
        _compiler = new ProgramCompiler(program, action, _target);
        return true;
    }

    /// <summary>A process's or thread's id as it is in its own pid namespace.</summary>
    private int OwnId(int processId, int threadId) =>
        ProcStatus.TryReadThread(_platform!, processId, threadId, out ProcStatus? status, out _) && status!.NSpid.Count != 0 ? status.NSpid[^1] : threadId;

    /// <summary>Whether a thread's control block begins with its own address: other threads' do so as well then, or are found out.</summary>
    private bool HasOwnAddress(int processId, ulong pointer)
    {
        ulong word = 0;
        return pointer != 0 && _platform!.ReadMemory(processId, pointer, MemoryMarshal.AsBytes(new Span<ulong>(ref word))) == sizeof(ulong) && word == pointer;
    }

    /// <summary>Whether a thread has no seccomp filter: each may have its own.</summary>
    private bool IsUnfiltered(int processId, TracedTask task) =>
        ProcStatus.TryReadThread(_platform!, task.IsVisitor ? task.ThreadId : processId, task.ThreadId, out ProcStatus? status, out _) && status!.Seccomp == 0;

    /// <summary>Of this machine's processors; read once, for the kernel takes its time.</summary>
    private bool HasFlag(string flag) => s_flags.GetOrAdd(
        flag, f => _platform!.ReadProcFile("/proc/cpuinfo", out _) is { } text && System.Text.Encoding.ASCII.GetString(text).Contains($" {f}", StringComparison.Ordinal));

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

    private long CountKeyHits()
    {
        long hits = 0;
        _region?.ForEachUsed(words => hits += action.Keys!.CountHits(words));
        return hits;
    }

    private static (long Least, long Greatest) ReadExtremes(SharedRegion region, int leastWord, int greatestWord)
    {
        ulong least = 0;
        ulong greatest = 0;
        region.ForEachUsed(words =>
        {
            least = Math.Max(least, Volatile.Read(ref words[leastWord]));
            greatest = Math.Max(greatest, Volatile.Read(ref words[greatestWord]));
        });
        return (least == 0 ? long.MaxValue : ProgramAction.DecodeLeast(least), greatest == 0 ? long.MinValue : ProgramAction.DecodeGreatest(greatest));
    }
}
