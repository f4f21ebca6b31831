using FastTrap.Isa;
using FastTrap.Native;

namespace FastTrap.Control;

/// <summary>
/// A breakpoint of the library's own (the entry point, main, the run-time linker); never a probe. One that stands stays in the text and is hit any number
/// of times, by any thread; the others are gone with their first hit.
/// </summary>
/// <remarks>
/// Control thread only, but for what is immutable. A thread passes one that stands by emulation of the instruction below it, so no thread ever runs while
/// it is lifted. Source: dt_proc.c, dt_bkpt_t.
/// </remarks>
internal sealed class ControlBreakpoint
{
    private readonly DisplacedInstruction _instruction;

    public ControlBreakpoint(ulong address, byte[] original, in DisplacedInstruction instruction, bool isStanding, Action<TracedTask> onHit)
    {
        Address = address;
        Original = original;
        IsStanding = isStanding;
        OnHit = onHit;
        _instruction = instruction;
    }

    public ulong Address { get; }

    /// <summary>What the trap displaced.</summary>
    public byte[] Original { get; }

    /// <summary>Whether it stays after a hit.</summary>
    public bool IsStanding { get; }

    /// <summary>
    /// Called with the thread stopped at <see cref="Address"/> (its program counter may still be where the trap left it); one that does not stand is removed
    /// by then. It may hold the thread, which then stands before the instruction.
    /// </summary>
    public Action<TracedTask> OnHit { get; }

    /// <summary>How many threads have run into it.</summary>
    public long Hits { get; set; }

    /// <summary>Carries out the instruction below one that stands; false if its memory could not be accessed.</summary>
    public bool TryPass(InstructionSet isa, ITargetMemory memory, ref RegisterSet registers)
    {
        registers.ProgramCounter = Address;
        return isa.Emulate(_instruction, ref registers, memory, out _) == EmulationOutcome.Done;
    }
}
