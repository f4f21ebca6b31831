namespace FastTrap.Isa.X64;

/// <summary>What an instruction does to the flow of control.</summary>
internal enum X64Flow : byte
{
    /// <summary>Goes on with the next.</summary>
    Next,

    /// <summary>Does nothing, or traps: what assemblers fill gaps with.</summary>
    Filler,

    /// <summary>ENDBR64, which marks a target of indirect branches.</summary>
    BranchTarget,

    /// <summary>A jump to a known address.</summary>
    Jump,

    /// <summary>A conditional jump, a loop, or the abort address of a transaction.</summary>
    Branch,

    /// <summary>A call of a known address.</summary>
    Call,

    /// <summary>A call through a register or memory.</summary>
    IndirectCall,

    /// <summary>A jump through a register or memory.</summary>
    IndirectJump,

    /// <summary>A return.</summary>
    Return,

    /// <summary>Nothing comes behind it: ud2, hlt.</summary>
    Stop,

    /// <summary>The bytes are no instruction, or one that is not for programs.</summary>
    Bad,
}

/// <summary>What a sweep must know of an instruction.</summary>
internal struct X64Shape
{
    /// <summary>Bytes.</summary>
    public byte Length;

    public X64Flow Flow;

    /// <summary>Bytes of the relative target, which ends the instruction: 0, 1 or 4.</summary>
    public byte RelativeLength;

    /// <summary>Where the displacement of an operand relative to the program counter stands; 0 if there is none.</summary>
    public byte RipOffset;

    /// <summary>Whether that operand's address is taken (lea), not accessed.</summary>
    public bool TakesAddress;

    /// <summary>Where an immediate of 4 bytes stands; 0 if there is none.</summary>
    public byte ImmediateOffset;

    /// <summary>Whether the next instruction is not reached from this one.</summary>
    public readonly bool EndsFlow => Flow is X64Flow.Jump or X64Flow.IndirectJump or X64Flow.Return or X64Flow.Stop;
}
