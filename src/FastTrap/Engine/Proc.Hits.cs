using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using FastTrap.Control;
using FastTrap.Engine.Mechanisms;
using FastTrap.Isa;
using FastTrap.Native;
using FastTrap.Usdt;

namespace FastTrap.Engine;

/// <summary>The way of a hit. No lock, no allocation.</summary>
internal sealed partial class Proc
{
    public TrapOutcome OnTrap(TracedTask task, ref RegisterSet registers, ulong trapAddress)
    {
        if (!task.StoppedByTrapInstruction)
        {
            return TrapOutcome.NotOurs;
        }

        if (_jump.Index.Count != 0 && _jump.TryLead(task, ref registers, trapAddress))
        {
            return TrapOutcome.ContinueModified;
        }

        if (_table.Find(trapAddress) is { } tracepoint && tracepoint.ArmedBy != _jump)
        {
            return OnHit(tracepoint, task, ref registers);
        }

        return _slots.Contains(trapAddress) ? OnSlotTrap(task, ref registers, trapAddress) : TrapOutcome.NotOurs;
    }

    public ulong FindWayFrom(ulong trapAddress) => _jump.FindWayFrom(trapAddress) is var way and not 0 ? way : IsStale(trapAddress) ? trapAddress : 0;

    /// <summary>Whether a trap was removed after a thread had executed it: the thread goes on as if it had never been there.</summary>
    private bool IsStale(ulong trapAddress)
    {
        Span<byte> now = stackalloc byte[1];
        return _table.Find(trapAddress) is not { ArmedBy: BreakpointMechanism } && !_slots.Contains(trapAddress) && WasTrap(trapAddress)
            && Process.Platform.ReadMemory(ProcessId, trapAddress, now) == now.Length && now[0] != JumpText.Trap;
    }

    public bool IsAnyTrapAt(ulong address)
    {
        if (_slots.Contains(address))
        {
            return _slots.IsTouchTrap(address) || TryFindSlotTrap(address, out _);
        }

        return IsTrapAt(address) || _jump.IsTrapAt(address) || (WasTrap(address) && IsLongerThanTrap(address));
    }

    private bool TryFindSlotTrap(ulong address, [NotNullWhen(true)] out Tracepoint? tracepoint) =>
        _slots.TryFind(address, out tracepoint) && address == tracepoint.SlotAddress + (ulong)tracepoint.Slot.TrapOffset;

    private bool IsLongerThanTrap(ulong address)
    {
        Span<byte> code = stackalloc byte[Isa.MaxInstructionLength];
        int length = Process.Platform.ReadMemory(ProcessId, address, code);
        return length > 0 && Isa.TryDecode(code[..length], address, out DisplacedInstruction instruction, out _)
            && instruction.Length > Isa.TrapBytes.Length;
    }

    /// <summary>The stop is over: those it was for pay for it.</summary>
    public void OnResumed()
    {
        ReadOnlySpan<ProbeEnabling> charged = _frame.Charged;
        if (charged.IsEmpty)
        {
            return;
        }

        long start = Process.Thread.LastReport;
        long now = EngineMetrics.StopDuration.Enabled ? Stopwatch.GetTimestamp() : 0;
        foreach (ProbeEnabling enabling in charged)
        {
            enabling.Charge(start, ref now);
        }

        _frame.ClearCharged();
        if (now != 0 && EngineMetrics.StopDuration.Enabled)
        {
            EngineMetrics.StopDuration.Record((double)(now - start) / Stopwatch.Frequency);
        }
    }

    private TrapOutcome OnHit(Tracepoint tracepoint, TracedTask task, ref RegisterSet registers)
    {
        registers.ProgramCounter = tracepoint.Address;
        HitFrame frame = Aim(task, tracepoint.Address);
        Fire(tracepoint.Before, frame, ref registers);
        if (registers.ProgramCounter != tracepoint.Address)
        {
            // A handler sent the thread elsewhere; the displaced instruction is not executed.
            return TrapOutcome.ContinueModified;
        }

        // A handler may have withdrawn what it was called for; the list read now is what counts.
        OneOrMany<Probe> after = tracepoint.After;
        if (_jump.HasReleased && _jump.TryBypass(tracepoint, task, ref registers))
        {
            return TrapOutcome.ContinueModified;
        }

        _taskMemory.ThreadId = task.ThreadId;
        Displacement displacement = _breakpoint.Displace(tracepoint, task, ref registers, !after.IsEmpty);
        if (displacement == Displacement.Done && !after.IsEmpty)
        {
            FireAfter(after, tracepoint, frame, ref registers);
        }

        return TrapOutcome.ContinueModified;
    }

    /// <summary>A trap in our own memory: behind a displaced instruction, or behind a touch.</summary>
    private TrapOutcome OnSlotTrap(TracedTask task, ref RegisterSet registers, ulong trapAddress)
    {
        if (_slots.IsTouchTrap(trapAddress) && BreakpointMechanism.TryFinishTouch(task, ref registers, out Tracepoint? touched))
        {
            return RetryAfterTouch(touched, task, ref registers);
        }

        if (!TryFindSlotTrap(trapAddress, out Tracepoint? tracepoint))
        {
            return TrapOutcome.NotOurs;
        }

        Isa.NormalizeSlotPosition(tracepoint.Instruction, tracepoint.Slot, tracepoint.SlotAddress, ref registers);
        BreakpointMechanism.GiveBackBorrowed(tracepoint, task, ref registers);
        OneOrMany<Probe> after = tracepoint.After;
        if (!after.IsEmpty)
        {
            HitFrame frame = Aim(task, tracepoint.Address);
            FireAfter(after, tracepoint, frame, ref registers);
        }

        return task.HeldSignal.si_signo != 0 ? TrapOutcome.ContinueWithSignal : TrapOutcome.ContinueModified;
    }

    private TrapOutcome RetryAfterTouch(Tracepoint tracepoint, TracedTask task, ref RegisterSet registers)
    {
        _taskMemory.ThreadId = task.ThreadId;
        OneOrMany<Probe> after = tracepoint.After;
        if (_breakpoint.Displace(tracepoint, task, ref registers, !after.IsEmpty) == Displacement.Done && !after.IsEmpty)
        {
            HitFrame frame = Aim(task, tracepoint.Address);
            FireAfter(after, tracepoint, frame, ref registers);
        }

        return TrapOutcome.ContinueModified;
    }

    public bool TrySkipLoad(ref RegisterSet registers) => _jump.TrySkipLoad(ref registers);

    public SignalOutcome OnSignalOutOfLine(TracedTask task, ref RegisterSet registers, ref SignalInfo info)
    {
        if (_jump.Contains(registers.ProgramCounter) || _jump.IsBehindMark(registers.ProgramCounter))
        {
            return _jump.OnSignal(task, ref registers, ref info);
        }

        if (info.si_signo == Signal.SIGSTOP)
        {
            // It runs no handler: the thread stops where it is, and goes on from there.
            return SignalOutcome.Deliver;
        }

        if (BreakpointMechanism.AbandonTouch(task, ref registers))
        {
            return SignalOutcome.Deliver;
        }

        ulong pc = registers.ProgramCounter;
        if (!_slots.TryFind(pc, out Tracepoint? tracepoint))
        {
            return SignalOutcome.Deliver;
        }

        RegisterSet moved = registers;
        SlotPosition position = Isa.NormalizeSlotPosition(tracepoint.Instruction, tracepoint.Slot, tracepoint.SlotAddress, ref moved);
        bool isFault = info.IsSynchronous;
        if (position == SlotPosition.Before && !isFault && !tracepoint.Instruction.Has(DisplacedTraits.SystemCall))
        {
            // The instruction shall be executed once, not once before and again after the handler.
            if (task.HeldSignal.si_signo != 0)
            {
                (task.HeldBehind ??= []).Add(info);
            }
            else
            {
                task.HeldSignal = info;
            }

            BreakpointMechanism.EnterTrapPart(tracepoint, task, ref registers);
            return SignalOutcome.Hold;
        }

        registers = moved;
        BreakpointMechanism.GiveBackBorrowed(tracepoint, task, ref registers);
        bool isInTrapPart = (long)(pc - tracepoint.SlotAddress) >= tracepoint.Slot.TrapPartOffset;
        if ((position is SlotPosition.After or SlotPosition.Trapped) && isInTrapPart && !tracepoint.After.IsEmpty)
        {
            // Between the instruction and the trap behind it.
            HitFrame frame = Aim(task, tracepoint.Address);
            FireAfter(tracepoint.After, tracepoint, frame, ref registers);
        }

        if (isFault && info.si_addr - tracepoint.SlotAddress < (ulong)Isa.SlotLength)
        {
            info.si_addr = moved.ProgramCounter + (info.si_addr - pc);
        }

        if (task.HeldSignal.si_signo != 0)
        {
            // The signal that was held comes first. A fault comes again after its handler, by itself; another signal is sent again.
            if (!isFault)
            {
                (task.HeldBehind ??= []).Add(info);
            }

            info = task.HeldSignal;
            task.HeldSignal = default;
            Process.Platform.SetSignalMask(task.ThreadId, task.HeldMask);
        }

        return SignalOutcome.Deliver;
    }

    public void LeaveOutOfLine(TracedTask task, ref RegisterSet registers)
    {
        if (_jump.Contains(registers.ProgramCounter))
        {
            _jump.Leave(ref registers);
            return;
        }

        if (BreakpointMechanism.AbandonTouch(task, ref registers))
        {
            return;
        }

        if (_slots.TryFind(registers.ProgramCounter, out Tracepoint? tracepoint))
        {
            Isa.NormalizeSlotPosition(tracepoint.Instruction, tracepoint.Slot, tracepoint.SlotAddress, ref registers);
            BreakpointMechanism.GiveBackBorrowed(tracepoint, task, ref registers);
        }
    }

    private HitFrame Aim(TracedTask task, ulong siteAddress)
    {
        HitFrame frame = _frame;
        frame.ClearCharged();
        frame.Task = task;
        frame.SiteAddress = siteAddress;
        frame.Vectors.Aim(task.ThreadId);
        frame.TimestampNs = Process.Thread.LastReport * (1_000_000_000 / Stopwatch.Frequency);
        return frame;
    }

    private static void Fire(OneOrMany<Probe> probes, HitFrame frame, ref RegisterSet registers)
    {
        foreach (Probe probe in probes)
        {
            foreach (EnabledProbe enabled in probe.Enabled)
            {
                enabled.Enabling.Fire(enabled, frame, ref registers);
            }
        }
    }

    /// <summary>
    /// Return probes fire only if the function was left: a return leaves always, a jump does when it goes outside. A test whether its probe is enabled is answered with yes.
    /// </summary>
    private static void FireAfter(OneOrMany<Probe> probes, Tracepoint tracepoint, HitFrame frame, ref RegisterSet registers)
    {
        bool isReturn = tracepoint.Instruction.Has(DisplacedTraits.Return);
        ulong pc = registers.ProgramCounter;
        foreach (Probe probe in probes)
        {
            if (probe.IsTestAt(tracepoint.Address))
            {
                registers.ReturnValue = 1;
            }
            else if (probe.Kind != ProbeKind.Return || isReturn || !probe.IsInFunction(pc))
            {
                foreach (EnabledProbe enabled in probe.Enabled)
                {
                    enabled.Enabling.Fire(enabled, frame, ref registers);
                }
            }
        }
    }

    /// <summary>An argument for <see cref="ProbeContext"/>.</summary>
    public bool TryGetArgument(HitFrame frame, in RegisterSet registers, Probe probe, int index, out ulong value)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        if (probe.Kind == ProbeKind.Return)
        {
            value = index switch
            {
                0 => frame.SiteAddress - probe.FunctionAddress,
                1 => registers.ReturnValue,
                2 => registers.Architecture == System.Runtime.InteropServices.Architecture.X64
                    ? registers[X64Register.Rdx]
                    : registers[Arm64Register.X1],
                _ => 0,
            };
            return index <= 2;
        }

        _taskMemory.ThreadId = frame.Task.ThreadId;
        if (probe.Kind == ProbeKind.Static)
        {
            UsdtArgument[] arguments = probe.ArgumentsAt(frame.SiteAddress);
            value = 0;
            return index < arguments.Length && arguments[index].TryGetValue(registers, _taskMemory, frame.Vectors, out value);
        }

        return Isa.TryGetArgument(registers, _taskMemory, probe.Details?.NativeIndex(index) ?? index, out value);
    }

    /// <summary>The low bytes of a static probe's argument as they are. Returns how many; 0 if it cannot be read.</summary>
    public int ReadArgument(HitFrame frame, in RegisterSet registers, Probe probe, int index, Span<byte> bytes)
    {
        UsdtArgument[] arguments = probe.ArgumentsAt(frame.SiteAddress);
        if ((uint)index >= (uint)arguments.Length)
        {
            return 0;
        }

        _taskMemory.ThreadId = frame.Task.ThreadId;
        UsdtArgument argument = arguments[index];
        int length = Math.Min(argument.Size, bytes.Length);
        return argument.TryRead(registers, _taskMemory, frame.Vectors, bytes[..length]) ? length : 0;
    }
}
