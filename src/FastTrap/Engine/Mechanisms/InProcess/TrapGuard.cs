using System.Buffers.Binary;
using System.Security.Cryptography;
using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>
/// A handler of SIGTRAP in the target which leads threads from our traps into trampolines when nobody traces them: the target outlives a tracer that is killed. x86-64.
/// </summary>
/// <remarks>
/// Scheme: docs/architecture.md, In-process trap. While there is a tracer the kernel reports each trap to it first, and the guard sees the program's own SIGTRAPs only. Made by a borrowed thread before the first trap of an arming, kept until the detach.
/// A trap is in the table before it is written, and leads no more after it was removed. Control thread only.
/// </remarks>
internal sealed class TrapGuard(ProcessHandle process)
{
    /// <summary>The name of its memory in <c>/proc/PID/maps</c>.</summary>
    public const string Name = "fasttrap.guard";

    /// <summary>The first word: "FASTTRPG". A random word follows.</summary>
    public const ulong Magic = 0x4750_5254_5453_4146;

    private const int RegionLength = 0x10000;
    private const int TablePointerOffset = 64;

    /// <summary>A word: where the state is. For who finds the guard without its tracer.</summary>
    public const int StateOffset = 72;

    /// <summary>Start and length of each region of trampolines, two words each; 0 ends them.</summary>
    private const int RangesOffset = 2048;
    private const int MaximumRanges = 100;

    /// <summary>32 bytes of zeros.</summary>
    private const int NothingOffset = 128;
    private const int CodeOffset = 256;
    private const int FirstTableOffset = 4096;
    private const int FirstCapacity = 2048;
    private const ulong NearReach = 1UL << 30;

    /// <summary>Room for actions of the target, used in turn; one more is spare.</summary>
    private const int SlotCount = 100;
    private const int MostChanges = 8;

    private readonly List<(ulong Start, ulong Length)> _mapped = [];
    private readonly List<SharedMemory> _memories = [];
    private SharedMemory? _memory;
    private GuardTable? _table;
    private ulong _address;
    private ulong _state;
    private ulong _restorer;
    private ulong _current;
    private int _slot;
    private bool _isFull;
    private int _rangeCount;

    /// <summary>Memory of it in the target.</summary>
    public IReadOnlyList<(ulong Start, ulong Length)> Mapped => _mapped;

    /// <summary>Whether it is there.</summary>
    public bool IsInstalled => _table is not null;

    /// <summary>Why it is not there; null: nobody asked, or it is.</summary>
    public string? Refusal { get; private set; }

    /// <summary>The handler in the target.</summary>
    public ulong Handler => _address + CodeOffset;

    /// <summary>Where its state is in the target; 0: it is not there.</summary>
    public ulong State => IsInstalled ? _state : 0;

    public bool Contains(ulong address) => _address != 0 && address - _address < RegionLength;

    /// <summary>Makes it, if it is not there, with room for more traps. Before they are written.</summary>
    /// <param name="traps">How many.</param>
    /// <returns>Null, or why it cannot be had. What cannot be had is not asked for again.</returns>
    public string? Prepare(int traps)
    {
        if (Refusal is null && _table is null)
        {
            string? problem = "no thread of the process could be stopped to install it";
            _ = process.Thread.TryBorrow(process, task => problem = Install(task));
            Refusal = problem;
        }

        if (Refusal is null && !_table!.HasRoom(traps))
        {
            return Grow(traps);
        }

        return Refusal;
    }

    /// <summary>A trap at an address, which is to be written, leads somewhere.</summary>
    public void Add(ulong trap, ulong target) => _isFull |= _table?.TryAdd(trap, target) == false;

    /// <summary>Memory in which threads stand that the tracer has led away from a trap: if it is killed before it can say so, the trap's signal comes to them there.</summary>
    public void SetRanges(IReadOnlyList<(ulong Start, ulong Length)> ranges)
    {
        for (int i = _rangeCount; _memory is not null && i < Math.Min(ranges.Count, MaximumRanges); i++)
        {
            WriteWord(_memory, RangesOffset + (i * 2 * sizeof(ulong)) + sizeof(ulong), ranges[i].Length);
            WriteWord(_memory, RangesOffset + (i * 2 * sizeof(ulong)), ranges[i].Start);
            _rangeCount = i + 1;
        }
    }

    /// <summary>A trap was removed: who has executed it restarts the instruction.</summary>
    public void Retire(ulong trap) => _table?.End(trap);

    /// <summary>Whether our traps are survived by threads as they are now, if the tracer goes.</summary>
    public bool CanOutlive(out string reason)
    {
        reason = "";
        if (!IsInstalled)
        {
            reason = Refusal ?? "no handler for traps was installed";
            return false;
        }

        if (_isFull)
        {
            reason = "there was no memory for all traps in the table of its handler for traps";
            return false;
        }

        foreach (TracedTask task in process.Tasks.Values)
        {
            if (!ProcStatus.TryReadThread(process.Platform, process.ProcessId, task.ThreadId, out ProcStatus? status, out _)
                && !ProcStatus.TryRead(process.Platform, task.ThreadId, out status, out _))
            {
                continue;
            }

            if ((status!.SigBlk & Signal.Bit(Signal.SIGTRAP)) != 0)
            {
                reason = $"thread {task.ThreadId} blocks SIGTRAP, and would die by a trap";
                return false;
            }
        }

        return true;
    }

    /// <summary>The address space is gone.</summary>
    public void Forget()
    {
        foreach (SharedMemory memory in _memories)
        {
            memory.Dispose();
        }

        _memories.Clear();
        _mapped.Clear();
        _memory = null;
        _table = null;
        _address = 0;
        _rangeCount = 0;
        Refusal = "the process is gone";
    }

    private string? Install(TracedTask task)
    {
        if (!TryShare(task, RegionLength, out ulong address, out SharedMemory? memory, out string? problem))
        {
            return problem;
        }

        if (!RemoteMap.TryMapNear(process, task, address, NearReach, GuardState.Length, out _state, out problem, isData: true))
        {
            return problem;
        }

        _mapped.Add((_state, GuardState.Length));
        GuardTable table = new(memory!, FirstTableOffset, FirstCapacity, address + FirstTableOffset);
        byte[] code = GuardCode.Assemble(
            address + CodeOffset, address + TablePointerOffset, _state, address + NothingOffset, address + RangesOffset, process.Escape.CallAddress, ControlThread.BlockedWhileStepped, out ulong restorer);
        code.CopyTo(memory!.Slice(CodeOffset, RangesOffset - CodeOffset));
        WriteWord(memory, TablePointerOffset, table.Address);
        WriteWord(memory, StateOffset, _state);
        Errno error = TakeOver(task, address + CodeOffset, restorer);
        if (error != Errno.None)
        {
            return $"the action for SIGTRAP could not be set ({error})";
        }

        _memory = memory;
        _address = address;
        _table = table;
        _restorer = restorer;
        (process.TrapDisposition ??= new SignalDisposition(Signal.SIGTRAP)).Cover(
            _state + GuardState.InstalledOffset, _state + GuardState.CurrentOffset, _state + GuardState.ActionsOffset + (SlotCount * GuardAction.Length));
        return null;
    }

    /// <summary>The target may have set an action since: then the guard stands in front of that. Null, or what was in the way.</summary>
    public string? Renew()
    {
        if (!IsInstalled)
        {
            return Refusal;
        }

        Errno error = Errno.ESRCH;
        _ = process.Thread.TryBorrow(process, task => error = TakeOver(task, Handler, _restorer));
        return error == Errno.None ? null : $"the action for SIGTRAP could not be set ({error})";
    }

    /// <summary>Learns what the target has, and stands in front of it. A thread of the target may change it in between: then once more.</summary>
    private Errno TakeOver(TracedTask task, ulong handler, ulong restorer)
    {
        ulong installed = _state + GuardState.InstalledOffset;
        byte[] word = new byte[sizeof(ulong)];
        byte[] bytes = new byte[GuardAction.Length];
        ulong place = NextSlot();
        if (!TryCall(task, 0, place, out GuardAction own, out Errno error) || own.Handler == handler)
        {
            return error;
        }

        for (int i = 0; i < MostChanges; i++)
        {
            // The default action, where the guard stood: a trap has reset it.
            if (!(IsInstalled && own.Handler == 0 && i == 0))
            {
                BinaryPrimitives.WriteUInt64LittleEndian(word, place);
                own.CoveredBy(handler, restorer).Write(bytes);
                if (process.Platform.WriteMemory(task.ThreadId, installed, bytes) != bytes.Length
                    || process.Platform.WriteMemory(task.ThreadId, _state + GuardState.CurrentOffset, word) != word.Length)
                {
                    return Errno.EFAULT;
                }

                _current = place;
            }

            place = NextSlot();
            if (!TryCall(task, installed, place, out GuardAction replaced, out error) || replaced == own || replaced.Handler == handler)
            {
                return error;
            }

            own = replaced;
        }

        return Errno.EAGAIN;
    }

    /// <summary>The place of an action that does not count now.</summary>
    private ulong NextSlot()
    {
        ulong place;
        do
        {
            place = _state + GuardState.ActionsOffset + ((ulong)(_slot++ % SlotCount) * GuardAction.Length);
        }
        while (place == _current);

        return place;
    }

    /// <summary>rt_sigaction with a new action, or none, and the old one as the kernel writes it.</summary>
    private bool TryCall(TracedTask task, ulong action, ulong old, out GuardAction seen, out Errno error)
    {
        byte[] bytes = new byte[GuardAction.Length];
        error = RemoteMap.Invoke(process, task, n => n.RtSigAction, [Signal.SIGTRAP, action, old, sizeof(ulong)]);
        error = error == Errno.None && process.Platform.ReadMemory(task.ThreadId, old, bytes) != bytes.Length ? Errno.EFAULT : error;
        seen = GuardAction.Read(bytes);
        return error == Errno.None;
    }

    /// <summary>A larger table, published by one store. The old one stays: a thread may be reading it.</summary>
    private string? Grow(int traps)
    {
        int capacity = _table!.CapacityFor(traps);
        long length = (GuardTable.LengthOf(capacity) + CodeRegion.HeaderLength + RegionLength - 1) & -RegionLength;
        string? problem = "no thread of the process could be stopped to map memory";
        SharedMemory? memory = null;
        ulong address = 0;
        _ = process.Thread.TryBorrow(process, task => TryShare(task, (int)length, out address, out memory, out problem));
        if (memory is null)
        {
            return problem;
        }

        GuardTable larger = new(memory, CodeRegion.HeaderLength, capacity, address + CodeRegion.HeaderLength);
        _table.CopyTo(larger);
        WriteWord(_memory!, TablePointerOffset, larger.Address);
        _table = larger;
        return null;
    }

    private bool TryShare(TracedTask task, int length, out ulong address, out SharedMemory? memory, out string? problem)
    {
        Span<byte> header = stackalloc byte[2 * sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(header, Magic);
        RandomNumberGenerator.Fill(header[sizeof(ulong)..]);
        SharedMemoryFailure failure = RemoteMap.Share(process, task, new SharedMemoryRequest(Name, length, IsCode: true), header, out address, out memory);
        problem = memory is null ? $"memory for it could not be had: {failure.Describe()}" : null;
        if (failure.LeftStart != 0)
        {
            _mapped.Add((failure.LeftStart, failure.LeftLength));
        }

        if (memory is null)
        {
            return false;
        }

        _memories.Add(memory);
        _mapped.Add((address, (ulong)length));
        return true;
    }

    private static void WriteWord(SharedMemory memory, long offset, ulong value) =>
        Volatile.Write(ref System.Runtime.InteropServices.MemoryMarshal.AsRef<ulong>(memory.Slice(offset, sizeof(ulong))), value);
}
