namespace FastTrap.Isa.Arm64;

/// <summary>
/// Branches which authenticate their target (RETAA, BRAA, BLRAA and the like). Only the processor has the keys.
/// </summary>
/// <remarks>
/// A thread that goes on by itself executes the branch itself, which does not care where it stands, unless it saves a return address. A thread that is
/// waited for authenticates a copy of the pointer, in a borrowed register, and traps; then the branch is taken to what came out. A processor that faults
/// on a bad pointer does so in either; one that spoils the pointer leads the thread to the same bad address.
/// </remarks>
internal static class Arm64AuthenticatedSlots
{
    private const DisplacedTraits Transfers = DisplacedTraits.Branch | DisplacedTraits.Call | DisplacedTraits.Return;

    private static ReadOnlySpan<byte> Candidates => [(byte)Arm64Register.X16, (byte)Arm64Register.X17, (byte)Arm64Register.X15];

    /// <summary>Whether the instruction is one; all other branches are emulated and never in slots.</summary>
    public static bool Is(in DisplacedInstruction instruction) => (instruction.Traits & Transfers) != 0;

    public static SlotLayout Build(Arm64Word word, in DisplacedInstruction instruction, Span<byte> slot)
    {
        int second = 0;
        if (!instruction.Has(DisplacedTraits.Call))
        {
            Arm64Slots.Put(slot, 0, word.Value);
            second = sizeof(uint);
        }

        bool isReturn = instruction.Has(DisplacedTraits.Return);
        bool hasModifier = isReturn || word.Bit(24);
        int pointer = isReturn ? (int)Arm64Register.X30 : word.Rn;
        int modifier = isReturn ? Arm64Word.ZeroOrStackPointer : word.BranchRm;
        byte borrowed = 0;
        foreach (byte candidate in Candidates)
        {
            if (candidate != pointer && (!hasModifier || candidate != modifier))
            {
                borrowed = candidate;
                break;
            }
        }

        // AUTIA, AUTIB with a modifier, whose 31 is the stack pointer; AUTIZA, AUTIZB without.
        uint authenticate = hasModifier ? 0xdac1_1000 | ((uint)modifier << 5) : 0xdac1_33e0;
        Arm64Slots.Put(slot, second, authenticate | (word.M ? 0x400u : 0) | borrowed);
        return new SlotLayout
        {
            ContinueOffset = (sbyte)(second == 0 ? SlotLayout.Missing : 0),
            TrapPartOffset = (sbyte)second,
            TrapOffset = (sbyte)(second + sizeof(uint)),
            InstructionLength = sizeof(uint),
            BorrowedRegister = (sbyte)borrowed,

            // Register 31 as a pointer is the zero register.
            BorrowedSource = (sbyte)(pointer == Arm64Word.ZeroOrStackPointer ? SlotLayout.Missing : pointer),
        };
    }

    /// <summary>Takes the branch of a thread whose pointer is authenticated.</summary>
    public static void Complete(in DisplacedInstruction instruction, in SlotLayout layout, ref RegisterSet registers)
    {
        registers.ProgramCounter = registers.Words[layout.BorrowedRegister];
        if (instruction.Has(DisplacedTraits.Call))
        {
            registers[Arm64Register.X30] = instruction.NextAddress;
        }
    }
}
