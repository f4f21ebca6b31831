using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastTrap.Native;

namespace FastTrap.Tests.Faults;

/// <summary>The real platform, of which one call fails as it might in real life. Waits that do not block are passed on uncounted.</summary>
/// <remarks>Thread-safe: the fault is set before a scenario's phase, and calls are counted with interlocked operations.</remarks>
internal sealed class FaultyPlatform : IPlatform
{
    private static readonly LinuxPlatform s_real = LinuxPlatform.Instance;

    private static readonly HashSet<string> s_changing =
    [
        nameof(Seize), nameof(Interrupt), nameof(Listen), nameof(Continue), nameof(ContinueToSystemCall), nameof(SingleStep), nameof(Detach), nameof(SetRegisters), nameof(SetChangedRegisters),
        nameof(SetRegisterSet), nameof(SetSignalInfo), nameof(SetSignalMask), nameof(WriteMemory), nameof(WriteCode), nameof(MapMemoryFile), nameof(SignalThread), nameof(QueueSignal),
    ];

    private volatile Fault? _fault;
    private int _calls;
    private int _victim;
    private int _isReached;
    private int _callsToLive;
    private int _deadlyChange;
    private int _changes;
    private ulong _behindGoneTrap;
    private int _peeked;

    /// <summary>For <see cref="DieAtChange"/>: when the report of a trap is taken that was removed meanwhile, and the thread stands behind it still.</summary>
    public const int GoneTrap = -1;

    /// <summary>For <see cref="DieAtChange"/>: when a thread was led back to a trap that was removed meanwhile, and its report is not taken yet.</summary>
    public const int Led = -2;

    private ulong _peekedAt;

    /// <summary>How many threads had been led from such a trap when its report was taken.</summary>
    public int LedFromGoneTraps { get; private set; }

    /// <summary>After so many calls of any kind, but waits that do not block, the next one throws: the thread that makes it is to end. 0: never.</summary>
    public void DieAfter(int calls) => Volatile.Write(ref _callsToLive, calls);

    /// <summary>How many calls there were that change something in a target, and reports that were taken.</summary>
    public int Changes => Volatile.Read(ref _changes);

    /// <summary>In front of this call of that kind, or behind the taking of this report, this process is killed. 0: never.</summary>
    public void DieAtChange(int change) => Volatile.Write(ref _deadlyChange, change);

    /// <summary>Whether the fault has happened.</summary>
    public bool IsReached => Volatile.Read(ref _isReached) != 0;

    /// <summary>Sets the one fault, or none, and whom it kills (0: whom the next seize names).</summary>
    public void Set(Fault? fault, int victim)
    {
        _fault = null;
        Interlocked.MemoryBarrier();
        _calls = 0;
        _victim = victim;
        _fault = fault;
    }

    public int CurrentThreadId => s_real.CurrentThreadId;

    public Architecture Architecture => s_real.Architecture;

    public int CurrentProcessId => s_real.CurrentProcessId;

    public Errno Seize(int threadId, PtraceOptions options)
    {
        Interlocked.CompareExchange(ref _victim, threadId, 0);
        return Call(() => s_real.Seize(threadId, options));
    }

    public Errno Interrupt(int threadId) => Call(() => s_real.Interrupt(threadId));

    public Errno Listen(int threadId) => Call(() => s_real.Listen(threadId));

    public Errno Continue(int threadId, int signal) => Call(() => s_real.Continue(threadId, signal));

    public Errno ContinueToSystemCall(int threadId, int signal) => Call(() => s_real.ContinueToSystemCall(threadId, signal));

    public Errno SingleStep(int threadId, int signal) => Call(() => s_real.SingleStep(threadId, signal));

    public Errno Detach(int threadId, int signal) => Call(() => s_real.Detach(threadId, signal));

    public Errno GetRegisters(int threadId, ref RegisterSet registers)
    {
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.GetRegisters(threadId, ref registers) : error;
        End(fault);
        return error;
    }

    public Errno SetRegisters(int threadId, in RegisterSet registers)
    {
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.SetRegisters(threadId, registers) : error;
        End(fault);
        return error;
    }

    public Errno SetChangedRegisters(int threadId, in RegisterSet registers, in RegisterSet current)
    {
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.SetChangedRegisters(threadId, registers, current) : error;
        End(fault);
        return error;
    }

    public int GetRegisterSet(int threadId, int noteType, Span<byte> buffer)
    {
        Fault? fault = Begin(out Errno error);
        int count = error == Errno.None ? s_real.GetRegisterSet(threadId, noteType, buffer) : -(int)error;
        End(fault);
        return count;
    }

    public Errno SetRegisterSet(int threadId, int noteType, ReadOnlySpan<byte> buffer)
    {
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.SetRegisterSet(threadId, noteType, buffer) : error;
        End(fault);
        return error;
    }

    public Errno GetSignalInfo(int threadId, out SignalInfo info)
    {
        info = default;
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.GetSignalInfo(threadId, out info) : error;
        End(fault);
        return error;
    }

    public Errno SetSignalInfo(int threadId, in SignalInfo info)
    {
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.SetSignalInfo(threadId, info) : error;
        End(fault);
        return error;
    }

    public Errno GetSignalMask(int threadId, out ulong mask)
    {
        mask = 0;
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.GetSignalMask(threadId, out mask) : error;
        End(fault);
        return error;
    }

    public Errno SetSignalMask(int threadId, ulong mask) => Call(() => s_real.SetSignalMask(threadId, mask));

    public Errno GetEventMessage(int threadId, out ulong message)
    {
        message = 0;
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.GetEventMessage(threadId, out message) : error;
        End(fault);
        return error;
    }

    public int Wait(int threadId, bool block, out WaitStatus status)
    {
        int id;
        if (_deadlyChange == Led && _peeked == threadId && _peekedAt != 0 && ReadProgramCounter(threadId) == _peekedAt - 1)
        {
            Die("taking the report of a thread that was led");
        }

        if (!block)
        {
            id = s_real.Wait(threadId, block, out status);
        }
        else
        {
            status = default;
            Fault? fault = Begin(out Errno error);
            id = error == Errno.None ? s_real.Wait(threadId, block, out status) : -(int)error;
            End(fault);
        }

        if (id > 0)
        {
            CountChange($"taking {id} {status}");
            if (_deadlyChange == GoneTrap && (_peeked == id ? _behindGoneTrap != 0 : IsBehindGoneTrap(id, status, out _behindGoneTrap)))
            {
                LookBehindGoneTrap(id);
            }

            _peeked = 0;
        }

        return id;
    }

    public int Peek(int threadId, bool block, out WaitStatus status)
    {
        int id = s_real.Peek(threadId, block, out status);
        _behindGoneTrap = 0;
        _peeked = id;
        _peekedAt = _deadlyChange == Led && id > 0 && status is { Stopped: true, IsSystemCallStop: false, Event: PtraceEvent.None, StopSignal: Signal.SIGTRAP } ? ReadProgramCounter(id) : 0;
        _ = _deadlyChange == GoneTrap && id > 0 && IsBehindGoneTrap(id, status, out _behindGoneTrap);
        return id;
    }

    public Errno WakeThread(int threadId) => Call(() => s_real.WakeThread(threadId));

    public Errno SetAffinity(int threadId, ReadOnlySpan<int> cpus)
    {
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.SetAffinity(threadId, cpus) : error;
        End(fault);
        return error;
    }

    public Errno SetUrgent(bool isUrgent) => Call(() => s_real.SetUrgent(isUrgent));

    public int ReadMemory(int processId, ulong address, Span<byte> buffer)
    {
        Fault? fault = Begin(out Errno error, out bool isShort);
        int count = isShort ? 0 : error == Errno.None ? s_real.ReadMemory(processId, address, buffer) : -(int)error;
        End(fault);
        return count;
    }

    public int WriteMemory(int processId, ulong address, ReadOnlySpan<byte> buffer)
    {
        Fault? fault = Begin(out Errno error, out bool isShort);
        int count = isShort ? 0 : error == Errno.None ? s_real.WriteMemory(processId, address, buffer) : -(int)error;
        End(fault);
        return count;
    }

    public void ReadMemoryBatch(int processId, ReadOnlySpan<ulong> addresses, int length, Span<byte> buffer, Span<bool> ok)
    {
        Fault? fault = Begin(out Errno error);
        if (error == Errno.None)
        {
            s_real.ReadMemoryBatch(processId, addresses, length, buffer, ok);
        }
        else
        {
            ok.Clear();
            buffer.Clear();
        }

        End(fault);
    }

    public Errno OpenMemory(int processId, out TargetMemory memory)
    {
        memory = new TargetMemory(processId, null);
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.OpenMemory(processId, out memory) : error;
        End(fault);
        return error;
    }

    public int WriteCode(TargetMemory memory, ulong address, ReadOnlySpan<byte> code)
    {
        Fault? fault = Begin(out Errno error, out bool isShort);
        int count = isShort ? 0 : error == Errno.None ? s_real.WriteCode(memory, address, code) : -(int)error;
        End(fault);
        return count;
    }

    public int ReadCode(TargetMemory memory, ulong address, Span<byte> code)
    {
        Fault? fault = Begin(out Errno error, out bool isShort);
        int count = isShort ? 0 : error == Errno.None ? s_real.ReadCode(memory, address, code) : -(int)error;
        End(fault);
        return count;
    }

    public Errno MapMemoryFile(int processId, int descriptor, string name, long length, out SharedMemory? memory)
    {
        memory = null;
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.MapMemoryFile(processId, descriptor, name, length, out memory) : error;
        End(fault);
        return error;
    }

    public Errno Hold(SharedMemory memory, long page, out HeldWord? word)
    {
        word = null;
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.Hold(memory, page, out word) : error;
        End(fault);
        return error;
    }

    public Errno ReadClocks(out ClockSample sample)
    {
        sample = default;
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.ReadClocks(out sample) : error;
        End(fault);
        return error;
    }

    public byte[]? ReadProcFile(string path, out Errno error)
    {
        Fault? fault = Begin(out error);
        byte[]? bytes = error == Errno.None ? s_real.ReadProcFile(path, out error) : null;
        End(fault);
        return bytes;
    }

    public string? ReadLink(string path, out Errno error)
    {
        Fault? fault = Begin(out error);
        string? target = error == Errno.None ? s_real.ReadLink(path, out error) : null;
        End(fault);
        return target;
    }

    public int ListProcIds(string path, List<int> ids)
    {
        Fault? fault = Begin(out Errno error);
        int count = error == Errno.None ? s_real.ListProcIds(path, ids) : -(int)error;
        End(fault);
        return count;
    }

    public Errno OpenFile(string path, out TargetFile? file)
    {
        file = null;
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.OpenFile(path, out file) : error;
        End(fault);
        return error;
    }

    public Errno Kill(int processId, int signal) => Call(() => s_real.Kill(processId, signal));

    public Errno SignalThread(int processId, int threadId, int signal) => Call(() => s_real.SignalThread(processId, threadId, signal));

    public Errno QueueSignal(int processId, int threadId, in SignalInfo info)
    {
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.QueueSignal(processId, threadId, info) : error;
        End(fault);
        return error;
    }

    public Errno OpenProcessDescriptor(int processId, out SafeHandle? descriptor)
    {
        descriptor = null;
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? s_real.OpenProcessDescriptor(processId, out descriptor) : error;
        End(fault);
        return error;
    }

    public bool HasEnded(SafeHandle processDescriptor) => s_real.HasEnded(processDescriptor);

    public bool? SharesAddressSpace(int processId, int otherProcessId)
    {
        Fault? fault = Begin(out Errno error);
        bool? shares = error == Errno.None ? s_real.SharesAddressSpace(processId, otherProcessId) : null;
        End(fault);
        return shares;
    }

    /// <summary>The real spawn, whose own calls come through here as well.</summary>
    public Errno SpawnSeized(SpawnRequest request, PtraceOptions options, out int processId)
    {
        processId = 0;
        Fault? fault = Begin(out Errno error);
        error = error == Errno.None ? SeizedSpawn.Run(this, request, options, out processId) : error;
        End(fault);
        return error;
    }

    private Errno Call(Func<Errno> real, [CallerMemberName] string method = "")
    {
        Fault? fault = Begin(out Errno error, out _, method);
        error = error == Errno.None ? real() : error;
        End(fault);
        return error;
    }

    private Fault? Begin(out Errno error, [CallerMemberName] string method = "") => Begin(out error, out _, method);

    /// <summary>Counts a call; gives the fault if this is the call that it means.</summary>
    private Fault? Begin(out Errno error, out bool isShort, [CallerMemberName] string method = "")
    {
        error = Errno.None;
        isShort = false;
        if (Volatile.Read(ref _callsToLive) != 0 && Interlocked.Decrement(ref _callsToLive) == 0)
        {
            throw new OperationCanceledException("The tracer dies here.");
        }

        if (s_changing.Contains(method))
        {
            CountChange(method);
        }

        Fault? fault = _fault;
        if (fault is null || fault.Method != method || Interlocked.Increment(ref _calls) != fault.Call)
        {
            return null;
        }

        Volatile.Write(ref _isReached, 1);
        error = fault.Kind == FaultKind.Error ? fault.Error : Errno.None;
        isShort = fault.Kind == FaultKind.Short;
        if (fault.Kind == FaultKind.KillBefore)
        {
            KillVictim();
        }

        return fault;
    }

    private void CountChange(string change)
    {
        if (Interlocked.Increment(ref _changes) == Volatile.Read(ref _deadlyChange))
        {
            Die(change);
        }
    }

    private static void Die(string change)
    {
        Console.WriteLine($"dies at {change}");
        s_real.Kill(s_real.CurrentProcessId, Signal.SIGKILL);
    }

    private static ulong ReadProgramCounter(int id)
    {
        RegisterSet registers = new(Architecture.X64);
        return s_real.GetRegisters(id, ref registers) == Errno.None ? registers.ProgramCounter : 0;
    }

    private void LookBehindGoneTrap(int id)
    {
        if (ReadProgramCounter(id) == _behindGoneTrap)
        {
            Die($"taking the report of a trap that is gone, at {_behindGoneTrap - 1:x}");
        }

        LedFromGoneTraps++;
    }

    private static bool IsBehindGoneTrap(int id, WaitStatus status, out ulong programCounter)
    {
        RegisterSet registers = new(Architecture.X64);
        Span<byte> now = stackalloc byte[1];
        bool isBehind = status is { Stopped: true, IsSystemCallStop: false, Event: PtraceEvent.None, StopSignal: Signal.SIGTRAP }
            && s_real.GetSignalInfo(id, out SignalInfo info) == Errno.None && info.si_code == SignalInfo.SI_KERNEL && s_real.GetRegisters(id, ref registers) == Errno.None
            && s_real.ReadMemory(id, registers.ProgramCounter - 1, now) == now.Length && now[0] != 0xcc;
        programCounter = isBehind ? registers.ProgramCounter : 0;
        return isBehind;
    }

    private void End(Fault? fault)
    {
        if (fault?.Kind == FaultKind.KillAfter)
        {
            KillVictim();
        }
    }

    private void KillVictim()
    {
        int victim = Volatile.Read(ref _victim);
        if (victim == 0)
        {
            // Nobody was started yet: there is nobody to kill.
            Volatile.Write(ref _isReached, 0);
            return;
        }

        s_real.Kill(victim, Signal.SIGKILL);
        while (s_real.ReadProcFile(string.Create(CultureInfo.InvariantCulture, $"/proc/{victim}/stat"), out _) is { } stat
            && stat[stat.AsSpan().LastIndexOf((byte)')') + 2] is not ((byte)'Z' or (byte)'X'))
        {
            // A killed process needs nobody to become a zombie.
            Thread.Yield();
        }
    }
}
