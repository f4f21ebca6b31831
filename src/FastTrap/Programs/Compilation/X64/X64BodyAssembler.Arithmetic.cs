using System.Runtime.InteropServices;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Programs.Compilation.X64;

internal sealed partial class X64BodyAssembler
{
    private const double TwoTo31 = 2147483648.0;
    private const double TwoTo32 = 4294967296.0;
    private const double TwoTo63 = 9223372036854775808.0;
    private const double TwoTo64 = 18446744073709551616.0;

    public override void XorC(ulong value)
    {
        MoveConstant(Scratch.A, value);
        _c.xor(rdx, rax);
    }

    public override void Calculate(ProgramOp op, bool isSigned, bool isWide)
    {
        switch (op)
        {
            case ProgramOp.Add:
                _c.add(rax, rcx);
                break;
            case ProgramOp.Subtract:
                _c.sub(rax, rcx);
                break;
            case ProgramOp.Multiply:
                _c.imul(rax, rcx);
                break;
            case ProgramOp.And:
                _c.and(rax, rcx);
                break;
            case ProgramOp.Or:
                _c.or(rax, rcx);
                break;
            case ProgramOp.Xor:
                _c.xor(rax, rcx);
                break;
            default:
                if (!isWide)
                {
                    _c.and(ecx, 31);
                }

                if (op == ProgramOp.ShiftLeft)
                {
                    _c.shl(rax, cl);
                }
                else if (isSigned)
                {
                    _c.sar(rax, cl);
                }
                else
                {
                    _c.shr(rax, cl);
                }

                break;
        }
    }

    public override void Divide(ProgramOp op, bool isSigned, bool isWide)
    {
        Label invalid = _c.CreateLabel();
        Label valid = _c.CreateLabel();
        Label done = _c.CreateLabel();
        Label minusOne = _c.CreateLabel();
        _c.test(rcx, rcx);
        _c.je(invalid);
        if (isSigned)
        {
            _c.cmp(rcx, -1);
            _c.je(minusOne);
            _c.cqo();
            _c.idiv(rcx);
        }
        else
        {
            _c.xor(edx, edx);
            _c.div(rcx);
        }

        if (op == ProgramOp.Remainder)
        {
            _c.mov(rax, rdx);
        }

        _c.jmp(valid);
        if (isSigned)
        {
            _c.Label(ref minusOne);
            _c.mov(rdx, isWide ? long.MinValue : int.MinValue);
            _c.cmp(rax, rdx);
            _c.je(invalid);
            if (op == ProgramOp.Divide)
            {
                _c.neg(rax);
            }
            else
            {
                _c.xor(eax, eax);
            }
        }

        _c.Label(ref valid);
        _c.mov(ecx, 1);
        _c.jmp(done);
        _c.Label(ref invalid);
        _c.xor(ecx, ecx);
        _c.Label(ref done);
        _c.zero_bytes();
    }

    public override void Compare(ProgramOp op, bool isSigned)
    {
        _c.cmp(rax, rcx);
        switch (op)
        {
            case ProgramOp.Equal:
                _c.sete(al);
                break;
            case ProgramOp.Less when isSigned:
                _c.setl(al);
                break;
            case ProgramOp.Less:
                _c.setb(al);
                break;
            case var _ when isSigned:
                _c.setle(al);
                break;
            default:
                _c.setbe(al);
                break;
        }

        _c.movzx(eax, al);
    }

    public override void Select()
    {
        _c.test(rax, rax);
        _c.mov(rax, rcx);
        _c.cmove(rax, rdx);
    }

    public override void Extend(int length)
    {
        switch (length)
        {
            case 1:
                _c.movzx(eax, al);
                break;
            case 2:
                _c.movzx(eax, ax);
                break;
            case 4:
                _c.mov(eax, eax);
                break;
            case 17:
                _c.movsx(rax, al);
                break;
            case 18:
                _c.movsx(rax, ax);
                break;
            case 20:
                _c.movsxd(rax, eax);
                break;
        }
    }

    public override void CalculateDouble(ProgramOp op)
    {
        _c.movq(xmm0, rax);
        _c.movq(xmm1, rcx);
        switch (op)
        {
            case ProgramOp.Add:
                _c.addsd(xmm0, xmm1);
                break;
            case ProgramOp.Subtract:
                _c.subsd(xmm0, xmm1);
                break;
            case ProgramOp.Multiply:
                _c.mulsd(xmm0, xmm1);
                break;
            default:
                _c.divsd(xmm0, xmm1);
                break;
        }

        _c.movq(rax, xmm0);
    }

    public override void CompareDouble(ProgramOp op)
    {
        _c.movq(xmm0, rax);
        _c.movq(xmm1, rcx);
        CompareVectors(op);
        _c.movzx(eax, al);
    }

    public override void ToDouble(bool isSigned)
    {
        if (isSigned)
        {
            _c.cvtsi2sd(xmm0, rax);
            _c.movq(rax, xmm0);
            return;
        }

        // Half of it with the lost bit put back, doubled, rounds as the whole would.
        Label large = _c.CreateLabel();
        Label done = _c.CreateLabel();
        _c.test(rax, rax);
        _c.js(large);
        _c.cvtsi2sd(xmm0, rax);
        _c.jmp(done);
        _c.Label(ref large);
        _c.mov(rcx, rax);
        _c.shr(rax, 1);
        _c.and(ecx, 1);
        _c.or(rax, rcx);
        _c.cvtsi2sd(xmm0, rax);
        _c.addsd(xmm0, xmm0);
        _c.Label(ref done);
        _c.movq(rax, xmm0);
    }

    public override void WidenSingle()
    {
        _c.movd(xmm0, eax);
        _c.cvtss2sd(xmm0, xmm0);
        _c.movq(rax, xmm0);
    }

    public override void FromDouble(ProgramType type)
    {
        // Above the lower limit (or on it, where nothing lies between it and the first that is too small), and below the upper.
        (double low, double high) = type switch
        {
            ProgramType.Int32 => (-TwoTo31 - 1, TwoTo31),
            ProgramType.UInt32 => (-1, TwoTo32),
            ProgramType.Int64 => (-TwoTo63, TwoTo63),
            _ => (-1, TwoTo64),
        };
        _c.mov(rdx, rax);
        _c.movq(xmm1, rax);
        _c.mov(rcx, BitConverter.DoubleToUInt64Bits(low));
        _c.movq(xmm0, rcx);
        CompareVectors(type == ProgramType.Int64 ? ProgramOp.LessOrEqual : ProgramOp.Less);
        _c.movzx(ecx, al);
        _c.movq(xmm0, rdx);
        _c.mov(rax, BitConverter.DoubleToUInt64Bits(high));
        _c.movq(xmm1, rax);
        CompareVectors(ProgramOp.Less);
        _c.and(cl, al);
        if (type != ProgramType.UInt64)
        {
            _c.cvttsd2si(rax, xmm0);
            return;
        }

        // The upper half is brought down to the lower.
        Label done = _c.CreateLabel();
        _c.cvttsd2si(rax, xmm0);
        _c.test(rax, rax);
        _c.jns(done);
        _c.mov(rax, BitConverter.DoubleToUInt64Bits(TwoTo63));
        _c.movq(xmm1, rax);
        _c.subsd(xmm0, xmm1);
        _c.cvttsd2si(rax, xmm0);
        _c.btc(rax, 63);
        _c.Label(ref done);
        _c.zero_bytes();
    }

    public override void FindPowerStep()
    {
        Label found = _c.CreateLabel();
        Label done = _c.CreateLabel();
        _c.bsr(rax, rdx);
        _c.jne(found);
        _c.mov(eax, -1);
        _c.Label(ref found);
        _c.add(eax, 2);
        _c.test(rdx, rdx);
        _c.jns(done);
        _c.xor(eax, eax);
        _c.Label(ref done);
        _c.zero_bytes();
    }

    public override void FindLinearStep(long least, long step, int count)
    {
        Label below = _c.CreateLabel();
        Label above = _c.CreateLabel();
        Label done = _c.CreateLabel();
        _c.mov(rax, least);
        _c.cmp(rdx, rax);
        _c.jl(below);
        _c.sub(rdx, rax);
        if ((UInt128)step * (UInt128)(count - 2) is var end && end <= ulong.MaxValue)
        {
            _c.mov(rax, (ulong)end);
            _c.cmp(rdx, rax);
            _c.jae(above);
        }

        _c.mov(rax, step);
        _c.mov(__qword_ptr[rsp + _temporary], rax);
        _c.mov(rax, rdx);
        _c.xor(edx, edx);
        _c.div(__qword_ptr[rsp + _temporary]);
        _c.inc(rax);
        _c.jmp(done);
        _c.Label(ref above);
        _c.mov(eax, count - 1);
        _c.jmp(done);
        _c.Label(ref below);
        _c.xor(eax, eax);
        _c.Label(ref done);
        _c.zero_bytes();
    }

    /// <summary>al = whether xmm0 op xmm1; false if one is no number.</summary>
    private void CompareVectors(ProgramOp op)
    {
        switch (op)
        {
            case ProgramOp.Equal:
                _c.ucomisd(xmm0, xmm1);
                _c.setnp(al);
                Label ordered = _c.CreateLabel();
                _c.je(ordered);
                _c.xor(eax, eax);
                _c.Label(ref ordered);
                _c.zero_bytes();
                break;
            case ProgramOp.Less:
                _c.ucomisd(xmm1, xmm0);
                _c.seta(al);
                break;
            default:
                _c.ucomisd(xmm1, xmm0);
                _c.setae(al);
                break;
        }
    }
}
