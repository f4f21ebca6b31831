using System.Buffers.Binary;

namespace FastTrap.Isa.Arm64;

/// <summary>Decodes one instruction and decides between emulation, slot and refusal.</summary>
/// <remarks>Words that user programs must not, or cannot, execute run in a slot: there they raise the signal which they would raise in place.</remarks>
internal static class Arm64Classifier
{
    public const int InstructionLength = sizeof(uint);

    public static bool TryDecode(ReadOnlySpan<byte> bytes, ulong pc, out DisplacedInstruction displaced, out ProbeRefusal reason)
    {
        reason = bytes.Length < InstructionLength ? ProbeRefusal.Truncated : ProbeRefusal.None;
        bytes = reason == ProbeRefusal.None ? bytes[..InstructionLength] : bytes;
        displaced = DisplacedInstruction.Create(bytes, pc);
        if (reason == ProbeRefusal.None && pc % InstructionLength != 0)
        {
            reason = ProbeRefusal.Misaligned;
        }

        if (reason == ProbeRefusal.None)
        {
            Arm64Word word = new(BinaryPrimitives.ReadUInt32LittleEndian(bytes));
            Arm64Class @class = Arm64Encodings.Classify(word);
            reason = RefusalOf(@class);
            if (reason == ProbeRefusal.None)
            {
                displaced.Kind = Arm64OperandDecoder.TrySetOperation(word, @class, ref displaced) ? DisplacedKind.Emulated : DisplacedKind.Slot;
                return true;
            }
        }

        displaced.Kind = DisplacedKind.Refused;
        return false;
    }

    private static ProbeRefusal RefusalOf(Arm64Class @class) => @class switch
    {
        Arm64Class.Unallocated => ProbeRefusal.Undecodable,
        Arm64Class.Breakpoint => ProbeRefusal.AlreadyBreakpoint,
        Arm64Class.PositionDependent => ProbeRefusal.PositionDependent,
        Arm64Class.LoadExclusive or Arm64Class.StoreExclusive => ProbeRefusal.ExclusiveSequence,
        _ => ProbeRefusal.None,
    };
}
