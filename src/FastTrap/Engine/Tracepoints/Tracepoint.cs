using FastTrap.Engine.Mechanisms;
using FastTrap.Isa;

namespace FastTrap.Engine;

/// <summary>One patched instruction, serving one or more probes.</summary>
/// <remarks>
/// Changed on the control thread only. The lists are replaced as a whole, so that a hit which is being handled sees one state of them. There are many: a word counts.
/// Source: fasttrap.c, fasttrap_tracepoint_t.
/// </remarks>
internal sealed class Tracepoint(in DisplacedInstruction instruction)
{
    private readonly DisplacedInstruction _instruction = instruction;

    /// <summary>What stands there when no trap does.</summary>
    public ref readonly DisplacedInstruction Instruction => ref _instruction;

    public ulong Address => _instruction.Address;

    /// <summary>Probes to fire before the instruction: entry and offset probes.</summary>
    public OneOrMany<Probe> Before { get; set; }

    /// <summary>Probes to fire after it: return probes.</summary>
    public OneOrMany<Probe> After { get; set; }

    /// <summary>How it is armed; null while it is not.</summary>
    public Mechanism? ArmedBy { get; set; }

    /// <summary>The slot with the displaced instruction, from the first hit on that needs one.</summary>
    public PlacedSlot PlacedSlot { get; set; } = PlacedSlot.None;

    /// <summary>Where the slot is; 0 if there is none.</summary>
    public ulong SlotAddress => PlacedSlot.Address;

    public ref readonly SlotLayout Slot => ref PlacedSlot.Layout;

    /// <summary>No slot could be had, and emulation serves.</summary>
    public bool HasNoSlot => PlacedSlot == PlacedSlot.Refused;

    public bool IsUsed => !Before.IsEmpty || !After.IsEmpty;
}
