namespace FastTrap.Isa.Arm64;

/// <summary>Carries out branches and no-ops; the rest goes to <see cref="Arm64DataEmulator"/> and <see cref="Arm64AccessEmulator"/>. Pure, and allocates nothing.</summary>
/// <remarks>
/// The branch type in the processor state is cleared: a branch that is emulated does not ask for a landing pad, and whatever stands behind an
/// emulated landing pad need not be one. The return address in x30 is the original one.
/// </remarks>
internal static class Arm64Emulator
{
    public static EmulationOutcome Run(
        in DisplacedInstruction instruction, ref RegisterSet registers, ITargetMemory memory, out ulong faultAddress)
    {
        Span<ulong> words = registers.Words;
        ref ulong state = ref words[(int)Arm64Register.Pstate];
        ulong pc = instruction.NextAddress;
        faultAddress = 0;
        Arm64Operation operation = (Arm64Operation)instruction.Operation;
        switch (operation)
        {
            case Arm64Operation.Nop:
                break;

            case Arm64Operation.BranchLink:
                words[(int)Arm64Register.X30] = pc;
                pc = instruction.Immediate;
                break;

            case Arm64Operation.Branch:
                pc = instruction.Immediate;
                break;

            case Arm64Operation.BranchConditional:
                pc = Arm64Flags.Holds(instruction.Condition, state) ? instruction.Immediate : pc;
                break;

            case Arm64Operation.CompareBranch:
                bool isZero = Cut(Read(words, instruction.Source), instruction.Size) == 0;
                pc = isZero == (instruction.Condition == 0) ? instruction.Immediate : pc;
                break;

            case Arm64Operation.TestBranch:
                pc = ((Read(words, instruction.Source) >> instruction.Scale) & 1) == instruction.Condition ? instruction.Immediate : pc;
                break;

            case Arm64Operation.BranchRegister:
                pc = Read(words, instruction.Source);
                break;

            case Arm64Operation.BranchLinkRegister:
                // In this order: blr x30 goes to where x30 was.
                pc = Read(words, instruction.Source);
                words[(int)Arm64Register.X30] = instruction.NextAddress;
                break;

            case Arm64Operation.Load or Arm64Operation.LoadPair:
                if (!Arm64AccessEmulator.TryLoad(instruction, words, memory, out faultAddress))
                {
                    return EmulationOutcome.ReadFault;
                }

                break;

            case Arm64Operation.Store or Arm64Operation.StorePair:
                if (!Arm64AccessEmulator.TryStore(instruction, words, memory, out faultAddress))
                {
                    return EmulationOutcome.WriteFault;
                }

                break;

            default:
                Arm64DataEmulator.Run(instruction, operation, words, ref state);
                break;
        }

        words[(int)Arm64Register.Pc] = pc;
        state &= ~Arm64Flags.BranchType;
        return EmulationOutcome.Done;
    }

    internal static ulong Read(ReadOnlySpan<ulong> words, byte register) => register == DisplacedInstruction.NoRegister ? 0 : words[register];

    internal static void Write(Span<ulong> words, byte register, ulong value)
    {
        if (register != DisplacedInstruction.NoRegister)
        {
            words[register] = value;
        }
    }

    internal static ulong Cut(ulong value, int size) => size == sizeof(ulong) ? value : (uint)value;
}
