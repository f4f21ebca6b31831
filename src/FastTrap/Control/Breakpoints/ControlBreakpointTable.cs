using System.Runtime.InteropServices;
using FastTrap.Isa;
using FastTrap.Native;
using Microsoft.Extensions.Logging;

namespace FastTrap.Control;

/// <summary>
/// The control breakpoints of one address space: a handful.
/// </summary>
/// <remarks>
/// Scheme. Changed on the control thread. The array is replaced as a whole, before a trap is written and after one was removed, so that other threads hide
/// the traps from what they read. A trap that a tracepoint shares is neither written over nor restored while the other stands: each asks the other
/// (<see cref="ITrapHandler.IsTrapAt"/>, <see cref="Find"/>).
/// Source: dt_proc.c, dt_proc_bpcreate, dt_proc_bpdestroy.
/// </remarks>
internal sealed class ControlBreakpointTable(ProcessHandle process)
{
    private readonly IPlatform _platform = process.Platform;
    private readonly List<ControlBreakpoint> _former = [];
    private volatile ControlBreakpoint[] _current = [];
    private TargetMemory? _memory;
    private TargetMemory? _spare;

    private ReadOnlySpan<byte> Trap => process.Architecture == Architecture.X64 ? [0xCC] : [0x00, 0x00, 0x20, 0xD4];

    /// <summary>What stands now; the same object until something changes. Any thread.</summary>
    public ControlBreakpoint[] Current => _current;

    /// <summary>Whether there is, or ever was, one in this address space.</summary>
    public bool WasUsed => _former.Count != 0 || _current.Length != 0;

    /// <summary>The breakpoint at an address, or null. Any thread.</summary>
    public ControlBreakpoint? Find(ulong address)
    {
        foreach (ControlBreakpoint breakpoint in _current)
        {
            if (breakpoint.Address == address)
            {
                return breakpoint;
            }
        }

        return null;
    }

    /// <summary>Replaces our traps in bytes that were read by what they displaced. Any thread.</summary>
    public static void Unmask(ControlBreakpoint[] current, ulong address, Span<byte> bytes)
    {
        foreach (ControlBreakpoint breakpoint in current)
        {
            for (int i = 0; i < breakpoint.Original.Length; i++)
            {
                ulong offset = breakpoint.Address + (ulong)i - address;
                if (offset < (ulong)bytes.Length)
                {
                    bytes[(int)offset] = breakpoint.Original[i];
                }
            }
        }
    }

    /// <summary>
    /// Sets a breakpoint. EEXIST: there is one of ours; EBUSY: somebody else's trap stands there; EINVAL: it is to stand, and its instruction cannot be
    /// emulated.
    /// </summary>
    public Errno Set(ulong address, bool isStanding, Action<TracedTask> onHit)
    {
        if (Find(address) is not null)
        {
            return Errno.EEXIST;
        }

        if (process.Handler?.IsDisplaced(address) == true)
        {
            return Errno.EBUSY;
        }

        Errno error = Open();
        if (error != Errno.None)
        {
            return error;
        }

        InstructionSet isa = InstructionSet.For(process.Architecture);
        Span<byte> bytes = stackalloc byte[isa.MaxInstructionLength];
        int read = _platform.ReadCode(_memory!, address, bytes);
        if (read < Trap.Length)
        {
            return read < 0 ? (Errno)(-read) : Errno.EFAULT;
        }

        bytes = bytes[..read];
        process.Handler?.Unmask(address, bytes);
        Unmask(_current, address, bytes);
        if (bytes.StartsWith(Trap))
        {
            return Errno.EBUSY;
        }

        bool isDecoded = isa.TryDecode(bytes, address, out DisplacedInstruction instruction, out _);
        if (isStanding && (!isDecoded || instruction.Kind != DisplacedKind.Emulated))
        {
            return Errno.EINVAL;
        }

        ControlBreakpoint breakpoint = new(address, bytes[..Trap.Length].ToArray(), instruction, isStanding, onHit);
        _current = [.. _current, breakpoint];
        TargetMemory memory = _memory!;
        process.Handler?.BeforeTrap(address);
        if (_memory != memory)
        {
            // The process has ended, or executed another program, while a thread of it was borrowed.
            return Errno.ESRCH;
        }

        int written = _platform.WriteCode(memory, address, Trap);
        if (written == Trap.Length)
        {
            return Errno.None;
        }

        _current = [.. _current.Where(b => b != breakpoint)];
        return written < 0 ? (Errno)(-written) : Errno.EIO;
    }

    /// <summary>Removes one, and restores the text unless a tracepoint needs the trap.</summary>
    public Errno Remove(ControlBreakpoint breakpoint)
    {
        if (Array.IndexOf(_current, breakpoint) < 0)
        {
            return Errno.None;
        }

        Errno error = process.Handler?.IsTrapAt(breakpoint.Address) == true ? Errno.None : Restore(_memory!, breakpoint);
        if (_former.TrueForAll(f => f.Address != breakpoint.Address))
        {
            _former.Add(breakpoint);
        }

        _current = [.. _current.Where(b => b != breakpoint)];
        return error;
    }

    /// <summary>Removes all; what cannot be restored is logged.</summary>
    public void RemoveAll(ILogger logger)
    {
        foreach (ControlBreakpoint breakpoint in _current)
        {
            Errno error = Remove(breakpoint);
            if (error is not Errno.None and not Errno.ESRCH)
            {
                Log.TextNotRestored(logger, process.ProcessId, breakpoint.Address, (int)error);
            }
        }
    }

    /// <summary>The last resort of a tracer that ends while its control thread does not answer. Any thread.</summary>
    public void RestoreBytes()
    {
        if (_memory is { } memory)
        {
            foreach (ControlBreakpoint breakpoint in _current)
            {
                _ = Restore(memory, breakpoint);
            }
        }
    }

    /// <summary>The address space is gone.</summary>
    public void Forget()
    {
        _current = [];
        _former.Clear();
        _memory?.Dispose();
        _memory = null;
        _spare?.Dispose();
        _spare = null;
    }

    /// <summary>Whether one stood at an address in this address space.</summary>
    public bool WasTrap(ulong address) => _former.Exists(b => b.Address == address);

    /// <summary>Whether a stopped process sees the memory of this one, by a trap that is lifted for a moment. For kernels that do not say.</summary>
    public bool SharesMemory(int processId)
    {
        if (_current is not [var breakpoint, ..] || process.Handler?.IsTrapAt(breakpoint.Address) == true)
        {
            return false;
        }

        Span<byte> seen = stackalloc byte[Trap.Length];
        bool isShared = Restore(_memory!, breakpoint) == Errno.None
            && _platform.ReadMemory(processId, breakpoint.Address, seen) == seen.Length && !seen.SequenceEqual(Trap);
        _ = _platform.WriteCode(_memory!, breakpoint.Address, Trap);
        return isShared;
    }

    /// <summary>Removes what a fork child inherited. The child is stopped. What was removed a moment ago it may have inherited, too.</summary>
    /// <remarks>Source: dt_proc.c, dt_proc_control, which takes the breakpoints out of the parent for the time of the fork.</remarks>
    public void CleanForkChild(int childProcessId, ILogger logger)
    {
        if (!WasUsed)
        {
            return;
        }

        Errno error = _platform.OpenMemory(childProcessId, out TargetMemory memory);
        if (error == Errno.EMFILE)
        {
            _spare?.Dispose();
            _spare = null;
            error = _platform.OpenMemory(childProcessId, out memory);
        }

        if (error != Errno.None)
        {
            if (error != Errno.ESRCH)
            {
                Log.ForkChildNotCleaned(logger, childProcessId, (int)error);
            }

            return;
        }

        using (memory)
        {
            foreach (ControlBreakpoint breakpoint in _current)
            {
                Clean(memory, breakpoint, isFormer: false, logger);
            }

            foreach (ControlBreakpoint breakpoint in _former)
            {
                if (Find(breakpoint.Address) is null)
                {
                    Clean(memory, breakpoint, isFormer: true, logger);
                }
            }
        }

        Reserve();
    }

    private void Clean(TargetMemory child, ControlBreakpoint breakpoint, bool isFormer, ILogger logger)
    {
        Span<byte> seen = stackalloc byte[Trap.Length];
        if (_platform.ReadCode(child, breakpoint.Address, seen) == seen.Length && !seen.SequenceEqual(Trap))
        {
            return;
        }

        // One that has gone from here: only if the parent shows the original, for memory may have been used anew.
        if (isFormer && (_platform.ReadCode(_memory!, breakpoint.Address, seen) != seen.Length || !seen.SequenceEqual(breakpoint.Original)))
        {
            return;
        }

        Errno error = Restore(child, breakpoint);
        if (error is not Errno.None and not Errno.ESRCH)
        {
            Log.TextNotRestored(logger, child.ProcessId, breakpoint.Address, (int)error);
        }
    }

    private Errno Open()
    {
        if (_memory is not null)
        {
            return Errno.None;
        }

        Errno error = _platform.OpenMemory(process.ProcessId, out TargetMemory memory);
        if (error == Errno.None)
        {
            _memory = memory;
            Reserve();
        }

        return error;
    }

    /// <summary>A descriptor to give up when a child's memory must be opened and the tracer has none left.</summary>
    private void Reserve()
    {
        if (_spare is null && _platform.OpenMemory(process.ProcessId, out TargetMemory spare) == Errno.None)
        {
            _spare = spare;
        }
    }

    private Errno Restore(TargetMemory memory, ControlBreakpoint breakpoint)
    {
        int written = _platform.WriteCode(memory, breakpoint.Address, breakpoint.Original);
        if (written != breakpoint.Original.Length)
        {
            // There is no second chance: a trap that stays kills the program.
            written = _platform.WriteCode(memory, breakpoint.Address, breakpoint.Original);
        }

        // Of memory that is no more nothing is written, and nothing is an error.
        return written == breakpoint.Original.Length ? Errno.None : written < 0 ? (Errno)(-written) : written == 0 ? Errno.ESRCH : Errno.EIO;
    }
}
