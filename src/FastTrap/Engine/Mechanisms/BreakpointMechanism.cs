using System.Diagnostics.CodeAnalysis;
using FastTrap.Control;
using FastTrap.Isa;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>
/// A trap instruction: the thread stops, a managed handler runs, and the displaced instruction is emulated or run in a slot.
/// </summary>
/// <remarks>
/// The cheapest correct way is chosen at each hit: a slot that has its place already where emulation would access memory and nobody waits for the
/// effects; else emulation; else the slot. What can be had neither way is withdrawn: its text is restored and the thread executes it in
/// place. An emulated access that fails is made natively, in the instruction's slot or, for branches, by touch code, so that a stack grows, or the
/// fault comes, as it would.
/// Source: fasttrap_isa.c, fasttrap_pid_probe.
/// </remarks>
internal sealed class BreakpointMechanism(Proc proc, TargetMemory memory, SlotSpace slots, TaskMemory taskMemory) : Mechanism
{
    private readonly IPlatform _platform = proc.Process.Platform;

    public override int PatchLength => proc.Isa.TrapBytes.Length;

    public override bool TryArm(Tracepoint tracepoint, out Errno error)
    {
        proc.Jump.Traps.BeforeTrap(tracepoint.Address);
        error = Write(tracepoint.Address, proc.Isa.TrapBytes);
        if (error != Errno.None)
        {
            return false;
        }

        tracepoint.ArmedBy = this;
        return true;
    }

    public override Errno Disarm(Tracepoint tracepoint)
    {
        // The memory may be another's by now: a library that was unmapped takes the traps in it along. And a control breakpoint may need the trap.
        Span<byte> now = stackalloc byte[proc.Isa.MaxInstructionLength];
        ReadOnlySpan<byte> original = tracepoint.Instruction.Bytes;
        now = now[..original.Length];
        if (_platform.ReadCode(memory, tracepoint.Address, now) == now.Length
            && !(now.StartsWith(proc.Isa.TrapBytes) && now[PatchLength..].SequenceEqual(original[PatchLength..])))
        {
            return Errno.None;
        }

        return proc.Process.ControlBreakpoints.Find(tracepoint.Address) is null ? Write(tracepoint.Address, original[..PatchLength]) : Errno.None;
    }

    public override Displacement Displace(Tracepoint tracepoint, TracedTask task, ref RegisterSet registers, bool wantsAfter)
    {
        ref readonly DisplacedInstruction instruction = ref tracepoint.Instruction;
        if (instruction.Kind == DisplacedKind.Emulated)
        {
            if (instruction.Has(DisplacedTraits.SlotPreferred) && !wantsAfter && !tracepoint.HasNoSlot && TryPlace(tracepoint, task)
                && tracepoint.Slot.CanContinue)
            {
                registers.ProgramCounter = tracepoint.SlotAddress + (ulong)tracepoint.Slot.ContinueOffset;
                return Displacement.GoesOn;
            }

            EmulationOutcome outcome = proc.Isa.Emulate(instruction, ref registers, taskMemory, out ulong faultAddress);
            if (outcome == EmulationOutcome.Done)
            {
                if (task.HandlerState is ThreadWork { HasTouched: true } work)
                {
                    work.HasTouched = false;
                }

                return Displacement.Done;
            }

            if (!instruction.Has(DisplacedTraits.SlotPossible))
            {
                return TryTouch(tracepoint, task, ref registers, faultAddress, outcome == EmulationOutcome.WriteFault)
                    ? Displacement.Later
                    : Withdraw(tracepoint, "its memory access could not be emulated");
            }

            // In its slot, the instruction itself finds out: a stack grows, a key allows what we may not, or the fault comes as it must.
        }

        if (!slots.TryPlace(tracepoint, task, memory, out string? reason))
        {
            return Withdraw(tracepoint, reason);
        }

        ref readonly SlotLayout slot = ref tracepoint.Slot;
        if (slot.CanContinue && !wantsAfter)
        {
            registers.ProgramCounter = tracepoint.SlotAddress + (ulong)slot.ContinueOffset;
            return Displacement.GoesOn;
        }

        EnterTrapPart(tracepoint, task, ref registers);
        return Displacement.Later;
    }

    /// <summary>Sends a thread which has not begun the instruction to the part of its slot which traps behind it.</summary>
    public static void EnterTrapPart(Tracepoint tracepoint, TracedTask task, ref RegisterSet registers)
    {
        ref readonly SlotLayout slot = ref tracepoint.Slot;
        registers.ProgramCounter = tracepoint.SlotAddress + (ulong)slot.TrapPartOffset;
        if (slot.Borrows && WorkOf(task) is { BorrowedFor: null } work)
        {
            work.BorrowedFor = tracepoint;
            work.BorrowedOriginal = registers.Words[slot.BorrowedRegister];
            registers.Words[slot.BorrowedRegister] = slot.BorrowedSource == SlotLayout.Missing ? slot.BorrowedValue : registers.Words[slot.BorrowedSource];
        }
    }

    /// <summary>Restores the register that a slot borrowed from a thread, if it did.</summary>
    public static void GiveBackBorrowed(Tracepoint tracepoint, TracedTask task, ref RegisterSet registers)
    {
        if (tracepoint.Slot.Borrows && task.HandlerState is ThreadWork { BorrowedFor: not null } work)
        {
            registers.Words[tracepoint.Slot.BorrowedRegister] = work.BorrowedOriginal;
            work.BorrowedFor = null;
        }
    }

    /// <summary>A thread's touch succeeded: its registers are as they were before, and the instruction may be tried again.</summary>
    public static bool TryFinishTouch(TracedTask task, ref RegisterSet registers, [NotNullWhen(true)] out Tracepoint? tracepoint)
    {
        tracepoint = null;
        if (task.HandlerState is not ThreadWork { TouchedFor: not null } work)
        {
            return false;
        }

        tracepoint = work.TouchedFor;
        work.TouchedFor = null;
        work.HasTouched = true;
        registers = work.BeforeTouch;
        return true;
    }

    /// <summary>A thread is stopped by something else in the middle of a touch: it goes back to the original instruction.</summary>
    public static bool AbandonTouch(TracedTask task, ref RegisterSet registers)
    {
        if (!TryFinishTouch(task, ref registers, out _))
        {
            return false;
        }

        ((ThreadWork)task.HandlerState!).HasTouched = false;
        return true;
    }

    private static ThreadWork WorkOf(TracedTask task) => (ThreadWork)(task.HandlerState ??= new ThreadWork());

    private bool TryTouch(Tracepoint tracepoint, TracedTask task, ref RegisterSet registers, ulong address, bool write)
    {
        ThreadWork work = WorkOf(task);
        if (work.HasTouched)
        {
            // The processor can and we cannot: execute-only memory, protection keys.
            work.HasTouched = false;
            return false;
        }

        if (!slots.TryGetTouch(tracepoint.Address, write, task, memory, out ulong start))
        {
            return false;
        }

        work.BeforeTouch = registers;
        work.TouchedFor = tracepoint;
        proc.Isa.SetTouchAddress(tracepoint.Instruction, ref registers, address);
        registers.ProgramCounter = start;
        return true;
    }

    /// <summary>A slot that emulation can do without is asked for once.</summary>
    private bool TryPlace(Tracepoint tracepoint, TracedTask task)
    {
        if (slots.TryPlace(tracepoint, task, memory, out _))
        {
            return true;
        }

        tracepoint.PlacedSlot = PlacedSlot.Refused;
        return false;
    }

    private Displacement Withdraw(Tracepoint tracepoint, string reason)
    {
        proc.Withdraw(tracepoint, ProbeRefusal.NoSlot, reason);
        return Displacement.Withdrawn;
    }

    private Errno Write(ulong address, ReadOnlySpan<byte> code)
    {
        int written = _platform.WriteCode(memory, address, code);
        return written == code.Length ? Errno.None : written < 0 ? (Errno)(-written) : Errno.EIO;
    }

    /// <summary>What is remembered of a thread between two of its traps.</summary>
    private sealed class ThreadWork
    {
        public Tracepoint? TouchedFor { get; set; }

        public bool HasTouched { get; set; }

        public RegisterSet BeforeTouch;

        public Tracepoint? BorrowedFor { get; set; }

        public ulong BorrowedOriginal { get; set; }
    }
}
