using System.Runtime.InteropServices;
using FastTrap.Control;
using FastTrap.Engine.Mechanisms;
using FastTrap.Isa;
using FastTrap.Native;
using Microsoft.Extensions.Logging;

namespace FastTrap.Engine;

/// <summary>
/// What the providers of one process image share: its tracepoints, slots and memory. An exec ends it; the new image gets a new one.
/// </summary>
/// <remarks>
/// Scheme. All changes are made on the control thread, in slices, so hits and changes never overlap and need no lock. The table of tracepoints is
/// published for other threads, which read target text through it. Its probes are the registry's, its counts the table of procs'. A tracepoint is in the table before its trap is written and
/// until after its trap was removed; a thread that ran into a trap which has gone meanwhile is recognised by control as stale.
/// Source: fasttrap.c, fasttrap_proc_t and the functions on tracepoints.
/// </remarks>
internal sealed partial class Proc : ITrapHandler
{
    private readonly TracerCore _core;
    private readonly ILogger _logger;
    private readonly TargetMemory _memory;
    private readonly TaskMemory _taskMemory;
    private readonly SlotSpace _slots;
    private readonly BreakpointMechanism _breakpoint;
    private readonly JumpMechanism _jump;
    private readonly ForkLedger _ledger = new();
    private readonly SemaphoreLedger _semaphores;
    private readonly HitFrame _frame;
    private volatile TracepointTable _table = TracepointTable.Empty;

    public Proc(TracerCore core, ProcessHandle process)
    {
        _core = core;
        _logger = core.Logger;
        Process = process;
        Isa = InstructionSet.For(process.Architecture);
        _semaphores = new SemaphoreLedger(process.Platform, process.ProcessId, core.Logger);
        Errno error = process.Platform.OpenMemory(process.ProcessId, out _memory);
        if (error is Errno.ESRCH or Errno.ENOENT)
        {
            throw new FastTrapException(
                FastTrapError.ProcessEnded,
                $"Process {process.ProcessId} has no memory now: it ended, its main thread did, or it is executing another program; in that case try again.",
                process.ProcessId, (int)error);
        }

        if (error != Errno.None)
        {
            throw new FastTrapException(
                FastTrapError.PermissionDenied,
                $"The memory of process {process.ProcessId} cannot be opened for writing ({error}): a security module or a container forbids it. Run the tracer as root, outside the container.",
                process.ProcessId, (int)error);
        }

        Entry = core.Procs.Enter(new ProcIdentity(process.ProcessId, process.StartTime));
        _ledger.Reserve(process.Platform, process.ProcessId);
        _frame = new HitFrame(this);
        _taskMemory = new TaskMemory(process.Platform);
        _slots = new SlotSpace(process, Isa);
        _breakpoint = new BreakpointMechanism(this, _memory, _slots, _taskMemory);
        _jump = new JumpMechanism(this, _memory, _breakpoint);
        _semaphores.Noted = _jump.Traps.NoteSemaphore;
    }

    public TracerCore Core => _core;

    public ProcessHandle Process { get; }

    public int ProcessId => Process.ProcessId;

    public InstructionSet Isa { get; }

    /// <summary>What the table of procs knows of it.</summary>
    public ProcEntry Entry { get; }

    public TracepointTable Table => _table;

    /// <summary>Whether the address space is gone.</summary>
    public bool IsGone { get; private set; }

    /// <summary>Whether the process is being let go of with its jumps in place.</summary>
    public bool IsLettingGo { get; private set; }

    public bool KeepsTrapAction => IsLettingGo && _jump.Guard.IsInstalled;

    public IReadOnlyList<(ulong Start, ulong Length)> AreasToUnmap => _jump.IsUsed && !IsLettingGo ? [.. _slots.Mapped, .. _jump.ToUnmap] : _slots.Mapped;

    public IReadOnlyList<(ulong Start, ulong Length)> MappedAreas => _jump.IsUsed && !IsLettingGo ? [.. _slots.Mapped, .. _jump.Mapped] : _slots.Mapped;

    /// <summary>Counters of static probes.</summary>
    public SemaphoreLedger Semaphores => _semaphores;

    /// <summary>The mechanism that needs no stops.</summary>
    public JumpMechanism Jump => _jump;

    public bool WasTrap(ulong address) => _ledger.Contains(address) && !HasOwnTrap(address);

    public void OnEverybodyOut()
    {
        if (!IsLettingGo)
        {
            _jump.Traps.End();
        }
    }

    public void BeforeTrap(ulong address) => _jump.Traps.BeforeTrap(address);

    public bool IsTrapAt(ulong address) => _table.Find(address) is { ArmedBy: BreakpointMechanism };

    public bool IsDisplaced(ulong address) => _jump.Index.FindWindow(address) is not null;

    public bool IsOutOfLine(ulong address) => _slots.Contains(address) || (!IsLettingGo && (_jump.Contains(address) || _jump.IsBehindMark(address)));

    public bool IsToStepOut(ulong address) => _jump.IsToStepOut(address);

    public bool HasOtherGuard => _jump.Adopted.HasGuard;

    public void KeepMask(TracedTask task, ulong? mask) => _jump.KeepMask(task, mask);

    /// <summary>Reads target memory as it is without our traps. Any thread. Returns bytes read, or a negative errno.</summary>
    public int ReadMemory(ulong address, Span<byte> buffer)
    {
        while (true)
        {
            TracepointTable table = _table;
            JumpIndex jumps = _jump.Index;
            ControlBreakpoint[] breakpoints = Process.ControlBreakpoints.Current;
            int version = table.Version;
            int read = Process.Platform.ReadMemory(ProcessId, address, buffer);
            if (read < 0)
            {
                read = Process.Platform.ReadCode(_memory, address, buffer);
            }

            // Traps are written after their table was published and removed before they leave it: what was read has no others if the table stood.
            Interlocked.MemoryBarrier();
            if (ReferenceEquals(table, _table) && table.Version == version && ReferenceEquals(jumps, _jump.Index) && ReferenceEquals(breakpoints, Process.ControlBreakpoints.Current))
            {
                jumps.Unmask(address, read > 0 ? buffer[..read] : default);
                Unmask(table, address, read > 0 ? buffer[..read] : default);
                ControlBreakpointTable.Unmask(breakpoints, address, read > 0 ? buffer[..read] : default);
                return read;
            }
        }
    }

    public void Unmask(ulong address, Span<byte> bytes)
    {
        _jump.Index.Unmask(address, bytes);
        Unmask(_table, address, bytes);
    }

    /// <summary>Replaces our traps in bytes that were read by what they displaced.</summary>
    public void Unmask(TracepointTable table, ulong address, Span<byte> bytes)
    {
        int patch = _breakpoint.PatchLength;
        if (table.Count == 0 || bytes.IsEmpty || address >= table.Highest + (ulong)patch || address + (ulong)bytes.Length <= table.Lowest)
        {
            return;
        }

        // Where the first byte of a trap is not, none begins; one that is not written yet displaces what is read.
        ReadOnlySpan<byte> trap = Isa.TrapBytes;
        for (int i = 1 - patch; i < bytes.Length; i++)
        {
            if (i >= 0)
            {
                int next = bytes[i..].IndexOf(trap[0]);
                if (next < 0)
                {
                    return;
                }

                i += next;
            }

            if (table.Find(address + (ulong)i) is { } tracepoint)
            {
                ReadOnlySpan<byte> original = tracepoint.Instruction.Bytes[..patch];
                int skip = Math.Max(0, -i);
                int start = Math.Max(0, i);
                original[skip..Math.Min(patch, bytes.Length - i)].CopyTo(bytes[start..]);
            }
        }
    }

    public void OnAddressSpaceGone()
    {
        if (IsGone)
        {
            return;
        }

        IsGone = true;
        _core.CountTracepoints(-_table.All().Count(t => t.ArmedBy is not null));
        _table = TracepointTable.Empty;
        _slots.Forget();
        _jump.Forget();
        _memory.Dispose();
        _ledger.Release();
        _semaphores.Forget();
        foreach (ProbeEnabling enabling in IsLettingGo ? [] : _enablings.ToArray())
        {
            enabling.OnProcessGone();
            enabling.Program?.OnRemoved(this, isQuiet: false);
        }

        _enablings.Clear();
        _core.Providers.RetireAll(Entry);
        _core.Procs.Leave(Entry, wasActive: true);
    }

    public void RestoreText()
    {
        if (IsLettingGo || HasLostMemory)
        {
            return;
        }

        _semaphores.LowerAll();
        foreach (Tracepoint tracepoint in _table.All())
        {
            _ = TryDisarm(tracepoint);
        }

        _jump.RestoreBytes();
    }

    public void BeginRelease()
    {
        if (IsGone || IsLettingGo || HasLostMemory || !_jump.IsUsed)
        {
            return;
        }

        _jump.EndLife();
        foreach (Tracepoint tracepoint in _table.All())
        {
            if (tracepoint.ArmedBy == _jump)
            {
                _ = TryDisarm(tracepoint);
            }
        }

        using IEnumerator<bool> steps = _jump.Retire();
        while (steps.MoveNext())
        {
            // Reports are taken while threads are looked at.
        }
    }

    /// <summary>Sites are to be retired for a thread that waits for it. Control thread.</summary>
    public void PostRetirement() => _ = RetireAsync();

    private async Task RetireAsync()
    {
        try
        {
            await Process.Thread.RunSlicedAsync(Process, _jump.Retire()).ConfigureAwait(false);
        }
        catch (FastTrapException e) when (e.Error is FastTrapError.ProcessEnded or FastTrapError.Detached)
        {
            // Gone with the process; a detach retires all.
        }
    }

    /// <summary>A trap of another mechanism was removed: a thread may still be stopped on it.</summary>
    public void OnTrapRemoved(ulong address, ReadOnlySpan<byte> original) => _ledger.Add(address, original);

    public bool SharesMemory(int processId)
    {
        // A tracepoint whose text is restored for a moment: the child sees that if the memory is one. A hit may be missed meanwhile, but the traps of a
        // parent are not taken for those of a child.
        foreach (Tracepoint tracepoint in _table.All())
        {
            if (tracepoint.ArmedBy is not BreakpointMechanism mechanism || Process.ControlBreakpoints.Find(tracepoint.Address) is not null)
            {
                continue;
            }

            Span<byte> seen = stackalloc byte[mechanism.PatchLength];
            bool isShared = mechanism.Disarm(tracepoint) == Errno.None
                && Process.Platform.ReadMemory(processId, tracepoint.Address, seen) == seen.Length
                && !seen.SequenceEqual(Isa.TrapBytes);
            _ledger.Add(tracepoint.Address, tracepoint.Instruction.Bytes[..mechanism.PatchLength]);
            _ = mechanism.TryArm(tracepoint, out _);
            return isShared;
        }

        return false;
    }

    /// <summary>The last resort of a tracer that ends while its control thread does not answer: the bytes alone, no book is kept. Any thread.</summary>
    public void RestoreBytes()
    {
        foreach (Tracepoint tracepoint in _table.All())
        {
            if (tracepoint.ArmedBy is BreakpointMechanism mechanism)
            {
                _ = mechanism.Disarm(tracepoint);
            }
        }

        _jump.RestoreBytes();
        _semaphores.LowerBytes();
    }

    public void CleanForkChild(int childProcessId, ref RegisterSet registers, out bool registersModified)
    {
        registersModified = false;
        _semaphores.CleanForkChild(childProcessId);
        if (_table.Count == 0 && _ledger.IsEmpty && _slots.Mapped.Count == 0 && !_jump.HasInherited)
        {
            return;
        }

        _ledger.Clean(Process.Platform, childProcessId, _table, _breakpoint.PatchLength, Isa, _memory, child => _jump.CleanForkChild(child, childProcessId), _logger);
        _ledger.Reserve(Process.Platform, ProcessId);
        if (_slots.Contains(registers.ProgramCounter))
        {
            registersModified = true;
            if (_slots.TryFind(registers.ProgramCounter, out Tracepoint? tracepoint))
            {
                Isa.NormalizeSlotPosition(tracepoint.Instruction, tracepoint.Slot, tracepoint.SlotAddress, ref registers);
            }
        }
        else if (_jump.Contains(registers.ProgramCounter))
        {
            registersModified = _jump.Leave(ref registers);
        }
    }

    /// <summary>
    /// The program was replaced, or ended, and the kernel has not reported it yet. Of memory that is no more nothing is read; where nothing is mapped, reading is an error. Asked twice,
    /// for text is left as it is after a yes.
    /// </summary>
    private bool HasLostMemory
    {
        get
        {
            Span<byte> any = stackalloc byte[1];
            return Process.Platform.ReadCode(_memory, 0, any) == 0 && Process.Platform.ReadCode(_memory, 0, any) == 0;
        }
    }

    /// <summary>A trap which is there now though we removed ours: somebody else's.</summary>
    private bool HasOwnTrap(ulong address)
    {
        Span<byte> now = stackalloc byte[_breakpoint.PatchLength];
        return Process.Platform.ReadCode(_memory, address, now) == now.Length && now.SequenceEqual(Isa.TrapBytes);
    }

    /// <summary>Restores the text. False if the trap is still there: then the tracepoint stays in the table, serves nobody, and is tried again at the detach.</summary>
    private bool TryDisarm(Tracepoint tracepoint, bool isUnmapped = false)
    {
        if (tracepoint.ArmedBy is not { } mechanism)
        {
            return true;
        }

        Errno error = mechanism.Disarm(tracepoint);
        if (mechanism == _jump)
        {
            tracepoint.ArmedBy = null;
            _core.CountTracepoints(-1);
            return true;
        }

        if (error != Errno.None && HasOwnTrap(tracepoint.Address))
        {
            error = mechanism.Disarm(tracepoint);
            if (error != Errno.None)
            {
                Log.TextNotRestored(_logger, ProcessId, tracepoint.Address, (int)error);
                return false;
            }
        }

        // Any other error: the memory is gone, and the trap with it.
        tracepoint.ArmedBy = null;
        _core.CountTracepoints(-1);
        _ledger.Add(tracepoint.Address, tracepoint.Instruction.Bytes[..mechanism.PatchLength], isUnmapped || error != Errno.None);
        return true;
    }
}
