using Iced.Intel;

namespace FastTrap.Isa.X64;

/// <summary>Probes of jumps by which a function may be left: their code runs on the way out only.</summary>
internal sealed partial class X64Relocator
{
    private const int RedZone = 128;
    private const int RangeCheckLength = 27;

    /// <summary>pop %rax; add $0x7f, %al; sahf; pop %rax; lea 136(%rsp), %rsp.</summary>
    private static ReadOnlySpan<byte> Restore => [0x58, 0x04, 0x7f, 0x9e, 0x58, 0x48, 0x8d, 0xa4, 0x24, 0x88, 0, 0, 0];

    /// <summary>
    /// Adds code that runs if the next instruction, a conditional jump, is taken, and moves that instruction. False with the reason if it has no opposite, or changes a register.
    /// </summary>
    /// <remarks><c>jncc over; body; jmp target; over:</c></remarks>
    public bool TryAddBodyIfTaken(ReadOnlySpan<byte> body, out WindowRefusal refusal)
    {
        refusal = WindowRefusal.NotMovable;
        if (!TryDecodeNext(out Instruction instruction, out ReadOnlySpan<byte> code, out _) || !(instruction.IsJccShortOrNear || instruction.IsJcxShort)
            || code[..^(instruction.IsJccNear ? 6 : 2)].Contains((byte)0x66))
        {
            return false;
        }

        ulong target = instruction.NearBranchTarget;
        int start = _length;
        if (instruction.IsJccShortOrNear)
        {
            byte condition = (byte)((instruction.IsJccShort ? code[^2] : code[^5]) & 0x0f);
            Write([0x0f, (byte)(0x80 | (condition ^ 1))]);
        }
        else
        {
            // Over the jump that is for the other case.
            Write(code[..^1]);
            Write([NearJumpLength, 0xe9]);
        }

        ulong end = Position + sizeof(int) + (ulong)body.Length;
        WriteInt32(body.Length + (FitsNear(target, end) ? NearJumpLength : FarJumpLength));
        Write(body);
        _bodies.Add(new RelocatedBody(start, _length - start, _next));

        // No point: who is here was counted, and is stepped on to the target, which may be far from the window.
        WriteJumpCode(target, false);
        _next += (ulong)instruction.Length;
        _ends = false;
        refusal = WindowRefusal.None;
        return true;
    }

    /// <summary>
    /// Adds code that runs if the next instruction, an indirect jump, leads out of a function, and moves that instruction. False with the reason if its target cannot be looked at beforehand.
    /// </summary>
    /// <param name="body">The code.</param>
    /// <param name="function">The function.</param>
    /// <param name="part">The part that was split off it; of length 0, none.</param>
    /// <param name="refusal">The reason.</param>
    /// <remarks>
    /// The target is pushed, which is all that may fault, below the red zone; flags are kept as programs keep them.
    /// <c>lea -128(%rsp), %rsp; push operand; push %rax; lahf; seto %al; push %rax; (is it inside?); restored: jmp last; outside, restored: body; last: jmp operand</c>
    /// </remarks>
    public bool TryAddBodyIfOutside(
        ReadOnlySpan<byte> body, (ulong Start, ulong Length) function, (ulong Start, ulong Length) part, out WindowRefusal refusal)
    {
        refusal = WindowRefusal.NotMovable;
        if (!TryDecodeNext(out Instruction jump, out ReadOnlySpan<byte> code, out ConstantOffsets offsets) || jump.Code != Iced.Intel.Code.Jmp_rm64
            || !CanPushLower(jump) || function.Length > int.MaxValue || part.Length > int.MaxValue)
        {
            return false;
        }

        Instruction push = jump;
        push.Code = Iced.Intel.Code.Push_rm64;
        if (jump.Op0Kind == OpKind.Memory && jump.MemoryBase == Register.RSP)
        {
            push.MemoryDisplacement64 = jump.MemoryDisplacement64 + RedZone;
            push.MemoryDisplSize = 8;
        }

        int start = _length;
        _points.Add(new RelocatedPoint(_length, _next, 0));
        Write([0x48, 0x8d, 0x64, 0x24, 0x80]);
        _points.Add(new RelocatedPoint(_length, _next, RedZone));
        refusal = WindowRefusal.OutOfReach;
        if (!TryEncode(push))
        {
            return false;
        }

        // From here on until the flags are restored: the flags, rax, the target.
        Write([0x50, 0x9f, 0x0f, 0x90, 0xc0, 0x50]);
        int outsideLength = Restore.Length + body.Length + NearJumpLength;
        WriteRangeCheck(function, (part.Length == 0 ? 0 : RangeCheckLength) + outsideLength);
        if (part.Length != 0)
        {
            WriteRangeCheck(part, outsideLength);
        }

        Write(Restore);
        Write(body);
        Write([0xe9]);
        WriteInt32(Restore.Length);
        Write(Restore);
        _bodies.Add(new RelocatedBody(start, _length - start, _next));
        _ends = true;
        _next += (ulong)jump.Length;
        bool isInReach = TryCopy(jump, code, offsets);
        refusal = isInReach ? WindowRefusal.None : WindowRefusal.OutOfReach;
        return isInReach;
    }

    /// <summary>Whether the operand can be found with the stack pointer lower by the red zone. What counts in 32 bits may wrap.</summary>
    private static bool CanPushLower(in Instruction jump) => jump.Op0Register != Register.RSP && jump.MemoryBase != Register.ESP
        && (jump.MemoryBase != Register.RSP || (long)jump.MemoryDisplacement64 is > int.MinValue and < int.MaxValue - RedZone);

    /// <summary>mov $-start, %rax; add 16(%rsp), %rax; cmp $length, %rax; jb by so many bytes.</summary>
    private void WriteRangeCheck((ulong Start, ulong Length) range, int skipped)
    {
        Write([0x48, 0xb8]);
        WriteUInt64(unchecked(0 - range.Start));
        Write([0x48, 0x03, 0x44, 0x24, 0x10, 0x48, 0x3d]);
        WriteInt32((int)range.Length);
        Write([0x0f, 0x82]);
        WriteInt32(skipped);
    }
}
