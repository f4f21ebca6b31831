namespace FastTrap.Isa;

/// <summary>How the instruction which a trap displaced is carried out.</summary>
internal enum DisplacedKind : byte
{
    /// <summary>By <see cref="InstructionSet.Emulate"/>.</summary>
    Emulated,

    /// <summary>Out of line, in a slot.</summary>
    Slot,

    /// <summary>Not at all: no probe may be placed here.</summary>
    Refused,
}

/// <summary>What matters to the engine about a displaced instruction.</summary>
[Flags]
internal enum DisplacedTraits : ushort
{
    /// <summary>Nothing in particular.</summary>
    None = 0,

    /// <summary>Pushes or saves a return address.</summary>
    Call = 1 << 0,

    /// <summary>A near return.</summary>
    Return = 1 << 1,

    /// <summary>A jump, conditional or not.</summary>
    Branch = 1 << 2,

    /// <summary>A jump which may fall through.</summary>
    Conditional = 1 << 3,

    /// <summary>A call or jump whose target is in a register or in memory.</summary>
    Indirect = 1 << 4,

    /// <summary>Enters the kernel.</summary>
    SystemCall = 1 << 5,

    /// <summary>A repeated string instruction: it may be interrupted half-way at its own address.</summary>
    Repeat = 1 << 6,

    /// <summary>Its memory operand is relative to the program counter.</summary>
    PcRelative = 1 << 7,

    /// <summary>Emulation reads target memory.</summary>
    ReadsMemory = 1 << 8,

    /// <summary>Emulation writes target memory.</summary>
    WritesMemory = 1 << 9,

    /// <summary>Starts a memory transaction: a trap behind it aborts the transaction, so after-probes do not fire there.</summary>
    BeginsTransaction = 1 << 10,

    /// <summary>
    /// A slot can be built, whatever the kind says. True of everything but near branches.
    /// </summary>
    SlotPossible = 1 << 11,

    /// <summary>
    /// Emulated, but a slot is better when there is one: emulation needs a remote memory access, which costs a system call, may tear,
    /// and passes over protection keys; the slot costs nothing more.
    /// </summary>
    SlotPreferred = 1 << 12,

    /// <summary>Always raises an exception (undefined instruction).</summary>
    Faults = 1 << 13,
}
