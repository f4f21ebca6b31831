using FastTrap.Programs.Shared;

namespace FastTrap.Programs.Compilation.Arm64;

internal sealed partial class Arm64BodyAssembler
{
    public override void Hash(int shift)
    {
        _c.Move(A, LaneLayout.HashMultiplier);
        _c.Word(0x9b00_7c00, A, C, A);
        _c.ShiftRight(A, A, shift);
        _c.Add(A, A, A);
    }

    public override void AddConstant(Scratch register, int value)
    {
        _c.Move(T, (ulong)value);
        _c.Add(Number(register), Number(register), T);
    }

    public override void JumpIfAtLeast(Scratch register, int value, BodyLabel label)
    {
        _c.Move(T, (ulong)value);
        _c.Compare(Number(register), T);
        _c.Branch(Arm64Condition.UnsignedGreaterOrEqual, label.Number);
    }

    public override void CountDown(int slot, BodyLabel spent)
    {
        LoadSlot(T, slot);
        _c.SubtractImmediate(T, T, 1);
        _c.Store(T, Sp, slot * sizeof(ulong));
        _c.BranchIfZero(T, spent.Number);
    }

    public override void SubtractFromSlot(int slot)
    {
        LoadSlot(T, slot);
        _c.Subtract(C, T, C);
    }

    public override void LoadWord(Scratch to, int offset)
    {
        PointTo(offset);
        _c.Load(Number(to), T, 0);
    }

    public override void LoadIndexed(Scratch to, int offset)
    {
        PointToIndexed(offset);
        _c.Load(Number(to), T, 0);
    }

    public override void StoreIndexed(int offset)
    {
        PointToIndexed(offset);
        _c.Store(C, T, 0);
    }

    public override void JumpIfIndexed(int offset, BodyLabel label)
    {
        PointToIndexed(offset);
        _c.Load(T, T, 0);
        _c.Compare(T, C);
        _c.Branch(Arm64Condition.Equal, label.Number);
    }

    public override void Claim(int offset, BodyLabel failed, bool locked)
    {
        int again = _c.NewLabel();
        _c.Word(0x8b00_0c00, B, B, A);
        PointTo(offset);
        _c.Mark(again);
        _c.Word(LoadExclusive, U, T);
        _c.BranchIfNotZero(U, failed.Number);
        _c.Word(StoreExclusive, C, T, U);
        _c.BranchIfNotZero32(U, again);
    }

    public override void LoadState(int offset, int slot)
    {
        LoadWord(Scratch.A, offset);
        StoreSlot(slot, Scratch.A);
        _c.ShiftRight(A, A, 32);
    }

    public override void ReplaceState(int offset, int slot, BodyLabel failed)
    {
        int again = _c.NewLabel();
        LoadSlot(U, slot);
        _c.AddImmediate(C, U, 1);

        // C = A:the lower half of C.
        _c.Word(0xb360_7c00, C, A);
        PointTo(offset);
        _c.Mark(again);
        _c.Word(LoadExclusive, V, T);
        _c.Compare(V, U);
        _c.Branch(Arm64Condition.NotEqual, failed.Number);
        _c.Word(StoreExclusive, C, T, V);
        _c.BranchIfNotZero32(V, again);
    }

    private void LoadSlot(int to, int slot) => _c.Load(to, Sp, slot * sizeof(ulong));

    /// <summary>x12 = B + offset + 8 * A.</summary>
    private void PointToIndexed(int offset)
    {
        PointTo(offset);
        _c.Word(0x8b00_0c00, T, T, A);
    }
}
