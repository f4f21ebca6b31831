namespace FastTrap.Tests.Isa.Differential;

/// <summary>Where things are in the target; see <c>tests/targets/instructions.c</c>.</summary>
internal static class Arena
{
    public const ulong Data = 0x1000_0000;
    public const ulong DataLength = 0x2000;
    public const ulong Stack = 0x1100_0000;
    public const ulong StackLength = 0x2000;
    public const ulong Code = 0x2000_0000;
    public const ulong FarCode = 0x8900_0000;

    /// <summary>Each case has a block, its instruction in the middle of it; the first block is a landing for branches.</summary>
    public const int BlockLength = 256;
    public const int InstructionOffset = 128;

    /// <summary>Pointers, read-only, to the code that ends a case.</summary>
    public const int FallPointer = 0x1200_0000;
    public const int TargetPointer = 0x1200_0008;
}
