using FastTrap.Programs.Shared;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace FastTrap.Programs.Compilation.X64;

internal sealed partial class X64BodyAssembler
{
    public override void Hash(int shift)
    {
        _c.mov(rax, LaneLayout.HashMultiplier);
        _c.imul(rax, rdx);
        _c.shr(rax, (byte)shift);
        _c.add(rax, rax);
    }

    public override void AddConstant(Scratch register, int value) => _c.add(Wide(register), value);

    public override void JumpIfAtLeast(Scratch register, int value, BodyLabel label)
    {
        _c.cmp(Wide(register), value);
        _c.jae(_labels[label.Number]);
    }

    public override void CountDown(int slot, BodyLabel spent)
    {
        _c.dec(Slot(slot));
        _c.je(_labels[spent.Number]);
    }

    public override void SubtractFromSlot(int slot)
    {
        _c.neg(rdx);
        _c.add(rdx, Slot(slot));
    }

    public override void LoadWord(Scratch to, int offset) => _c.mov(Wide(to), __qword_ptr[rcx + offset]);

    public override void LoadIndexed(Scratch to, int offset) => _c.mov(Wide(to), Indexed(offset));

    public override void StoreIndexed(int offset) => _c.mov(Indexed(offset), rdx);

    public override void JumpIfIndexed(int offset, BodyLabel label)
    {
        _c.cmp(Indexed(offset), rdx);
        _c.je(_labels[label.Number]);
    }

    public override void Claim(int offset, BodyLabel failed, bool locked)
    {
        _c.lea(rcx, __[rcx + (rax * 8)]);
        _c.xor(eax, eax);
        Atomic(locked).cmpxchg(__qword_ptr[rcx + offset], rdx);
        _c.jne(_labels[failed.Number]);
    }

    public override void LoadState(int offset, int slot)
    {
        _c.mov(rax, __qword_ptr[rcx + offset]);
        _c.mov(Slot(slot), rax);
        _c.shr(rax, 32);
    }

    public override void ReplaceState(int offset, int slot, BodyLabel failed)
    {
        _c.shl(rax, 32);
        _c.mov(edx, __dword_ptr[rsp + SavedArea + (slot * sizeof(ulong))]);
        _c.inc(edx);
        _c.or(rdx, rax);
        _c.mov(rax, Slot(slot));
        _c.cmpxchg(__qword_ptr[rcx + offset], rdx);
        _c.jne(_labels[failed.Number]);
    }

    private static AssemblerMemoryOperand Slot(int slot) => __qword_ptr[rsp + SavedArea + (slot * sizeof(ulong))];

    private static AssemblerMemoryOperand Indexed(int offset) => __qword_ptr[rcx + (rax * 8) + offset];
}
