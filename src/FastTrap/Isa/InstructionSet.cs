using System.Runtime.InteropServices;
using FastTrap.Isa.Arm64;
using FastTrap.Isa.X64;

namespace FastTrap.Isa;

/// <summary>
/// What the engine must know about one architecture: how instructions are decoded, emulated and run out of line, and where arguments are.
/// The choice is the target's, at run time. Pure: no kernel, no input or output.
/// </summary>
/// <remarks>
/// Instances are immutable and shared by all threads. Source: fasttrap_impl.h, the interface to fasttrap_isa.c
/// (fasttrap_tracepoint_init, _install, _remove, fasttrap_pid_probe, fasttrap_pid_getarg).
/// </remarks>
internal abstract class InstructionSet
{
    /// <summary>The instruction set of a target.</summary>
    /// <exception cref="PlatformNotSupportedException">Targets of this architecture cannot be probed.</exception>
    public static InstructionSet For(Architecture architecture) => architecture switch
    {
        Architecture.X64 => X64InstructionSet.Instance,
        Architecture.Arm64 => Arm64InstructionSet.Instance,
        _ => throw new PlatformNotSupportedException(
            $"FastTrap cannot probe {architecture} programs: it knows the instructions of x86-64 and arm64. Probe a program for one of these."),
    };

    public abstract Architecture Architecture { get; }

    /// <summary>The breakpoint instruction.</summary>
    public abstract ReadOnlySpan<byte> TrapBytes { get; }

    /// <summary>Whether the program counter of a trapped thread is behind the trap instruction, not on it.</summary>
    public abstract bool TrapAdvancesProgramCounter { get; }

    /// <summary>Bytes.</summary>
    public abstract int MaxInstructionLength { get; }

    /// <summary>Bytes.</summary>
    public abstract int InstructionAlignment { get; }

    /// <summary>The instruction which enters the kernel.</summary>
    public abstract ReadOnlySpan<byte> SystemCallBytes { get; }

    /// <summary>Bytes of a slot, a power of two; slots are aligned to it.</summary>
    public abstract int SlotLength { get; }

    /// <summary>Bytes within which a slot must lie of its instruction for threads to go on by themselves.</summary>
    public abstract ulong SlotReach { get; }

    /// <summary>Bytes within which a slot serves at all; further than <see cref="SlotReach"/> only where slots that always trap are of use.</summary>
    public abstract ulong FarSlotReach { get; }

    /// <summary>
    /// Decodes and classifies what stands at <paramref name="pc"/>. False with a reason if no probe may be placed there.
    /// <paramref name="bytes"/> are the original ones, and fewer than <see cref="MaxInstructionLength"/> only where readable memory ends.
    /// </summary>
    public abstract bool TryDecode(ReadOnlySpan<byte> bytes, ulong pc, out DisplacedInstruction instruction, out ProbeRefusal reason);

    /// <summary>
    /// Carries out an emulated instruction, as if it stood at its original address: <paramref name="registers"/> are as before it, except
    /// for the program counter, which is not looked at and set to what follows. Allocates nothing.
    /// </summary>
    /// <param name="instruction">One of kind <see cref="DisplacedKind.Emulated"/>.</param>
    /// <param name="registers">The thread's registers, changed only if the outcome is <see cref="EmulationOutcome.Done"/>.</param>
    /// <param name="memory">The target's memory, changed only if the outcome is <see cref="EmulationOutcome.Done"/>.</param>
    /// <param name="faultAddress">The first byte that could not be accessed.</param>
    public abstract EmulationOutcome Emulate(
        in DisplacedInstruction instruction, ref RegisterSet registers, ITargetMemory memory, out ulong faultAddress);

    /// <summary>
    /// Builds the code which runs the instruction out of line, for a slot at <paramref name="slotAddress"/>. Works for every instruction
    /// with <see cref="DisplacedTraits.SlotPossible"/>, emulated or not.
    /// </summary>
    /// <param name="instruction">The instruction.</param>
    /// <param name="slotAddress">Where the slot will be in the target.</param>
    /// <param name="slot"><see cref="SlotLength"/> bytes, all of them written.</param>
    /// <param name="layout">Where in the slot is what.</param>
    /// <param name="reason">Why not.</param>
    public abstract bool TryBuildSlot(
        in DisplacedInstruction instruction, ulong slotAddress, Span<byte> slot, out SlotLayout layout, out ProbeRefusal reason);

    /// <summary>
    /// Puts the registers of a thread which is somewhere in a slot to where it would be without the slot: on the original instruction or
    /// behind it. A borrowed register is the caller's to restore, whatever the position.
    /// </summary>
    public abstract SlotPosition NormalizeSlotPosition(
        in DisplacedInstruction instruction, in SlotLayout layout, ulong slotAddress, ref RegisterSet registers);

    /// <summary>
    /// Fetches the integer or pointer argument <paramref name="index"/> (from 0) of a function at whose first instruction the thread is.
    /// False if it could not be read.
    /// </summary>
    public abstract bool TryGetArgument(in RegisterSet registers, ITargetMemory memory, int index, out ulong value);

    /// <summary>
    /// Sweeps over a function's original bytes. False with <see cref="ProbeRefusal.NotDecodable"/> if they are not one seamless row of
    /// instructions; then only the entry may be probed.
    /// </summary>
    public abstract bool TryScanFunction(ReadOnlySpan<byte> code, ulong address, FunctionScan result, out ProbeRefusal reason);

    /// <summary>The most bytes that <see cref="BuildTouch"/> writes.</summary>
    public abstract int TouchLength { get; }

    /// <summary>
    /// Builds position-independent code which makes a thread access the byte that an emulation could not, so that the fault, or the growth
    /// of the stack, happens natively, and then traps. <c>SetTouchAddress</c> prepares the thread.
    /// </summary>
    public abstract TouchCode BuildTouch(Span<byte> code, bool write);

    /// <summary>Puts the address to touch into the register which the touch code uses; the caller restores all registers afterwards.</summary>
    public abstract void SetTouchAddress(ref RegisterSet registers, ulong address);

    /// <summary>As the other, where the kind of fault depends on the instruction too.</summary>
    public virtual void SetTouchAddress(in DisplacedInstruction instruction, ref RegisterSet registers, ulong address) =>
        SetTouchAddress(ref registers, address);
}

/// <summary>What <see cref="InstructionSet.BuildTouch"/> built.</summary>
/// <param name="Length">Bytes.</param>
/// <param name="TrapOffset">Where the trap instruction stands.</param>
internal readonly record struct TouchCode(int Length, int TrapOffset);
