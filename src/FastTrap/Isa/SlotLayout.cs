namespace FastTrap.Isa;

/// <summary>What stands where in a slot. A value; offsets are in bytes from the slot's start.</summary>
internal readonly record struct SlotLayout
{
    /// <summary>Says that a part is missing.</summary>
    public const int Missing = -1;

    public SlotLayout()
    {
    }

    /// <summary>Where to send a thread which shall go on by itself after the instruction; <see cref="Missing"/> if it cannot.</summary>
    public sbyte ContinueOffset { get; init; } = Missing;

    /// <summary>The jump back, in the continuing part.</summary>
    public sbyte ContinueJumpOffset { get; init; } = Missing;

    /// <summary>Where to send a thread which shall trap after the instruction.</summary>
    public sbyte TrapPartOffset { get; init; } = Missing;

    /// <summary>The trap instruction itself.</summary>
    public sbyte TrapOffset { get; init; } = Missing;

    /// <summary>A jump to the abort address of a transaction, when that is out of reach.</summary>
    public sbyte AbortOffset { get; init; } = Missing;

    /// <summary>Bytes of the instruction in the slot; it may have been re-encoded.</summary>
    public byte InstructionLength { get; init; }

    /// <summary>
    /// The register (a word of <see cref="RegisterSet"/>) which must hold <see cref="BorrowedValue"/> while the part that traps runs, and be
    /// restored once the thread has left it, by the trap, a fault or a signal; or <see cref="Missing"/>.
    /// </summary>
    public sbyte BorrowedRegister { get; init; } = Missing;

    /// <summary>What the borrowed register must hold, unless it is a copy.</summary>
    public ulong BorrowedValue { get; init; }

    /// <summary>The register of which the borrowed register must hold a copy; or <see cref="Missing"/>.</summary>
    public sbyte BorrowedSource { get; init; } = Missing;

    /// <summary>Whether a thread can go on by itself.</summary>
    public bool CanContinue => ContinueOffset != Missing;

    /// <summary>Whether a register is borrowed.</summary>
    public bool Borrows => BorrowedRegister != Missing;
}

/// <summary>Where a thread was in a slot.</summary>
internal enum SlotPosition
{
    /// <summary>Not in this slot; the registers are untouched.</summary>
    Outside,

    /// <summary>The instruction has not been completed: the program counter is now its original address.</summary>
    Before,

    /// <summary>The instruction is complete: the program counter is now where it leads.</summary>
    After,

    /// <summary>As <see cref="After"/>, and the thread had executed the slot's trap; where the trap leaves the program counter on itself, this is not seen.</summary>
    Trapped,
}
