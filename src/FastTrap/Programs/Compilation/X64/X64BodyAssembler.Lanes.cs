using FastTrap.Native;
using FastTrap.Programs.Shared;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Programs.Compilation.X64;

internal sealed partial class X64BodyAssembler
{
    public override void JumpIfGuarded(ulong address, BodyLabel label)
    {
        _c.AddInstruction(Instruction.Create(Code.Mov_AL_moffs8, Register.AL, new MemoryOperand(Register.None, Register.None, 1, (long)address, 8)));
        _c.test(al, al);
        _c.je(_labels[label.Number]);
    }

    public override void JumpIfUntraced(ulong address, BodyLabel label)
    {
        _c.mov(rax, address);
        _c.mov(eax, __dword_ptr[rax]);
        _c.dec(eax);
        _c.cmp(eax, (int)HeldWord.Ended - 1);
        _c.jae(_labels[label.Number]);
    }

    /// <summary>A thread pointer of 0 is that of no thread, and would take a free lane for its own.</summary>
    public override void FindLane(BodyLabel found)
    {
        LaneLayout lanes = target.Layout;
        int stride = checked((int)lanes.LaneStride);
        Label own = _labels[found.Number];
        Label look = _c.CreateLabel();
        Label next = _c.CreateLabel();
        Label inside = _c.CreateLabel();
        Label common = _c.CreateLabel();
        LoadThreadPointer(rdx, target.HasThreadPointerWord);
        if (lanes.LaneCount == 1)
        {
            _c.xor(ecx, ecx);
        }
        else
        {
            _c.mov(rcx, LaneLayout.HashMultiplier);
            _c.imul(rcx, rdx);
            _c.shr(rcx, (byte)lanes.HashShift);
            if (int.IsPow2(stride))
            {
                _c.shl(rcx, (byte)int.Log2(stride));
            }
            else
            {
                _c.imul(rcx, rcx, stride);
            }
        }

        _c.mov(rax, target.LanesAddress);
        _c.add(rcx, rax);
        _c.test(rdx, rdx);
        _c.je(common);
        _c.cmp(__qword_ptr[rcx], rdx);
        _c.je(own);
        _c.mov(__dword_ptr[rsp + _temporary], lanes.LaneCount);
        _c.Label(ref look);
        _c.mov(rax, __qword_ptr[rcx]);
        _c.cmp(rax, rdx);
        _c.je(own);
        _c.test(rax, rax);
        _c.jne(next);
        if (target is { HasThreadPointerWord: true, HasReadFsBase: true })
        {
            // A word that is no pointer may be another thread's, too.
            _c.rdfsbase(rax);
            _c.cmp(rax, rdx);
            _c.jne(common);
            _c.xor(eax, eax);
        }

        _c.@lock.cmpxchg(__qword_ptr[rcx], rdx);
        _c.je(own);

        // A signal's handler may have claimed it for this thread.
        _c.cmp(rax, rdx);
        _c.je(own);
        _c.Label(ref next);
        _c.add(rcx, stride);
        _c.mov(rax, target.CommonLaneAddress);
        _c.cmp(rcx, rax);
        _c.jne(inside);
        _c.mov(rcx, target.LanesAddress);
        _c.Label(ref inside);
        _c.dec(__dword_ptr[rsp + _temporary]);
        _c.jne(look);
        _c.Label(ref common);
        _c.mov(rcx, target.CommonLaneAddress);
    }

    public override void Increment(int offset, bool locked) => Atomic(locked).inc(__qword_ptr[rcx + offset]);

    public override void IncrementIndexed(int offset, bool locked) => Atomic(locked).inc(__qword_ptr[rcx + (rax * 8) + offset]);

    public override void AddTo(int offset, bool locked) => Atomic(locked).add(__qword_ptr[rcx + offset], rdx);

    public override void RaiseTo(int offset, bool locked)
    {
        Label again = _c.CreateLabel();
        Label done = _c.CreateLabel();
        _c.mov(rax, __qword_ptr[rcx + offset]);
        _c.Label(ref again);
        _c.cmp(rdx, rax);
        _c.jbe(done);
        Atomic(locked).cmpxchg(__qword_ptr[rcx + offset], rdx);
        _c.jne(again);
        _c.Label(ref done);
        _c.zero_bytes();
    }

    public override void Reserve(int length, BodyLabel full, bool locked)
    {
        int ring = target.Layout.RingLength;
        int start = target.Layout.RingStart;
        Label isFull = _labels[full.Number];
        Label again = _c.CreateLabel();
        Label wrap = _c.CreateLabel();
        Label reserved = _c.CreateLabel();
        Label done = _c.CreateLabel();
        _c.Label(ref again);
        _c.mov(rax, __qword_ptr[rcx + LaneLayout.HeadOffset]);
        _c.mov(rdx, rax);
        _c.sub(rdx, __qword_ptr[rcx + LaneLayout.TailOffset]);
        _c.cmp(rdx, ring - length);
        _c.ja(isFull);
        _c.mov(edx, eax);
        _c.and(edx, ring - 1);
        _c.cmp(edx, ring - length);
        _c.ja(wrap);
        _c.lea(rdx, __[rax + length]);
        Atomic(locked).cmpxchg(__qword_ptr[rcx + LaneLayout.HeadOffset], rdx);
        _c.je(reserved);
        _c.jmp(again);

        // The rest of the ring and a record at its start, at once; the rest may be had only if both fit.
        _c.Label(ref wrap);
        _c.sub(rdx, length);
        _c.add(rdx, __qword_ptr[rcx + LaneLayout.TailOffset]);
        _c.cmp(rdx, rax);
        _c.jl(isFull);
        _c.mov(edx, eax);
        _c.and(edx, ring - 1);
        _c.neg(rdx);
        _c.lea(rdx, __[rax + rdx + (ring + length)]);
        Atomic(locked).cmpxchg(__qword_ptr[rcx + LaneLayout.HeadOffset], rdx);
        _c.jne(again);
        _c.and(eax, ring - 1);
        _c.mov(edx, LaneLayout.FillerFlag | (uint)ring);
        _c.sub(edx, eax);
        _c.mov(__dword_ptr[rcx + rax + start], edx);
        _c.lea(rcx, __[rcx + start]);
        _c.jmp(done);
        _c.Label(ref reserved);
        _c.and(eax, ring - 1);
        _c.lea(rcx, __[rcx + rax + start]);
        _c.Label(ref done);
        _c.mov(__dword_ptr[rcx + LaneLayout.RecordSizeOffset], LaneLayout.BusyFlag | (uint)length);
    }

    public override void WriteHeader()
    {
        ReadTicks();
        _c.mov(__qword_ptr[rcx + LaneLayout.RecordTimeOffset], rax);
        Patched(Instruction.Create(Code.Mov_rm32_imm32, new MemoryOperand(Register.RCX, LaneLayout.RecordSiteOffset), int.MaxValue), SiteValue.Id);
        if (target.ThreadIdOffset is { } offset)
        {
            _c.mov(eax, __dword_ptr.fs[offset]);
            _c.mov(__dword_ptr[rcx + LaneLayout.RecordThreadOffset], eax);
        }
        else
        {
            _c.mov(__dword_ptr[rcx + LaneLayout.RecordThreadOffset], 0);
        }

        if (target.HasReadProcessorId)
        {
            // The node is above the processor's number.
            _c.rdpid(rax);
            _c.and(eax, 0xfff);
            _c.mov(__dword_ptr[rcx + LaneLayout.RecordCpuOffset], eax);
        }
        else
        {
            _c.mov(__dword_ptr[rcx + LaneLayout.RecordCpuOffset], -1);
        }
    }

    public override void WriteRegister(int offset, int word)
    {
        if (word == (int)X64Register.Rsp || Array.IndexOf(s_wide, OfWord(word)) >= 0)
        {
            LoadRegister(Scratch.A, word);
            _c.mov(__qword_ptr[rcx + offset], rax);
        }
        else
        {
            _c.mov(__qword_ptr[rcx + offset], OfWord(word));
        }
    }

    public override void WriteConstant(int offset, ulong value)
    {
        if ((long)value is >= int.MinValue and <= int.MaxValue)
        {
            _c.mov(__qword_ptr[rcx + offset], (int)value);
        }
        else
        {
            _c.mov(rax, value);
            _c.mov(__qword_ptr[rcx + offset], rax);
        }
    }

    public override void Write(int offset, Scratch from) => _c.mov(__qword_ptr[rcx + offset], Wide(from));

    public override void AddBit(int bit)
    {
        _c.shl(rax, (byte)bit);
        _c.or(rdx, rax);
    }

    public override void Commit(uint size) => _c.mov(__dword_ptr[rcx + LaneLayout.RecordSizeOffset], size);

    private Assembler Atomic(bool locked) => locked ? _c.@lock : _c;
}
