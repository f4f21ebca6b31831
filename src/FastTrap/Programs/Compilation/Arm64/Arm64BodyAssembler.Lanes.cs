using FastTrap.Programs.Shared;

namespace FastTrap.Programs.Compilation.Arm64;

internal sealed partial class Arm64BodyAssembler
{
    private const uint LoadExclusive = 0xc85f_7c00;
    private const uint StoreExclusive = 0xc800_7c00;
    private const uint LoadAcquireExclusive = 0xc85f_fc00;
    private const uint StoreReleaseExclusive = 0xc800_fc00;
    private const uint LoadAcquire = 0xc8df_fc00;
    private const uint StoreRelease32 = 0x889f_fc00;
    private const uint Store32ByRegister = 0xb820_6800;
    private const uint Load32ByRegister = 0xb860_6800;

    public override void JumpIfGuarded(ulong address, BodyLabel label)
    {
        _c.Move(A, address);
        _c.LoadByte(A, A, 0);
        _c.BranchIfZero(A, label.Number);
    }

    public override void JumpIfUntraced(ulong address, BodyLabel label) => throw new NotSupportedException("Loads that fault are mended on x86-64 only.");

    /// <summary>A thread pointer of 0 is that of no thread, and would take a free lane for its own.</summary>
    public override void FindLane(BodyLabel found)
    {
        LaneLayout lanes = target.Layout;
        int look = _c.NewLabel();
        int claim = _c.NewLabel();
        int claimed = _c.NewLabel();
        int next = _c.NewLabel();
        int inside = _c.NewLabel();
        int common = _c.NewLabel();
        _c.Word(ReadThreadPointer, C);
        _c.BranchIfZero(C, common);
        if (lanes.LaneCount == 1)
        {
            _c.Move(B, 0);
        }
        else
        {
            _c.Move(A, LaneLayout.HashMultiplier);
            _c.Word(0x9b00_7c00, B, C, A);
            _c.ShiftRight(B, B, lanes.HashShift);
        }

        _c.Move(A, (ulong)lanes.LaneStride);
        _c.Word(0x9b00_7c00, B, B, A);
        _c.Move(A, target.LanesAddress);
        _c.Add(B, B, A);
        _c.Load(A, B, LaneLayout.OwnerOffset);
        _c.Compare(A, C);
        _c.Branch(Arm64Condition.Equal, found.Number);
        _c.Move(T, (ulong)lanes.LaneCount);
        _c.Mark(look);
        _c.Load(A, B, LaneLayout.OwnerOffset);
        _c.Compare(A, C);
        _c.Branch(Arm64Condition.Equal, found.Number);
        _c.BranchIfNotZero(A, next);
        _c.Mark(claim);
        _c.Word(LoadExclusive, A, B);
        _c.BranchIfNotZero(A, claimed);
        _c.Word(StoreExclusive, C, B, U);
        _c.BranchIfNotZero32(U, claim);
        _c.Branch(found.Number);

        // A signal's handler may have claimed it for this thread.
        _c.Mark(claimed);
        _c.Compare(A, C);
        _c.Branch(Arm64Condition.Equal, found.Number);
        _c.Mark(next);
        _c.Move(A, (ulong)lanes.LaneStride);
        _c.Add(B, B, A);
        _c.Move(A, target.CommonLaneAddress);
        _c.Compare(B, A);
        _c.Branch(Arm64Condition.NotEqual, inside);
        _c.Move(B, target.LanesAddress);
        _c.Mark(inside);
        _c.SubtractImmediate(T, T, 1);
        _c.BranchIfNotZero(T, look);
        _c.Mark(common);
        _c.Move(B, target.CommonLaneAddress);
    }

    public override void Increment(int offset, bool locked)
    {
        PointTo(offset);
        int again = _c.NewLabel();
        _c.Mark(again);
        _c.Word(LoadExclusive, U, T);
        _c.AddImmediate(U, U, 1);
        _c.Word(StoreExclusive, U, T, V);
        _c.BranchIfNotZero32(V, again);
    }

    public override void IncrementIndexed(int offset, bool locked)
    {
        _c.Word(0x8b00_0c00, B, B, A);
        Increment(offset, locked);
    }

    public override void AddTo(int offset, bool locked)
    {
        PointTo(offset);
        int again = _c.NewLabel();
        _c.Mark(again);
        _c.Word(LoadExclusive, U, T);
        _c.Add(U, U, C);
        _c.Word(StoreExclusive, U, T, V);
        _c.BranchIfNotZero32(V, again);
    }

    public override void RaiseTo(int offset, bool locked)
    {
        PointTo(offset);
        int again = _c.NewLabel();
        int done = _c.NewLabel();
        _c.Mark(again);
        _c.Word(LoadExclusive, A, T);
        _c.Compare(C, A);
        _c.Branch(Arm64Condition.UnsignedLessOrEqual, done);
        _c.Word(StoreExclusive, C, T, V);
        _c.BranchIfNotZero32(V, again);
        _c.Mark(done);
    }

    public override void Reserve(int length, BodyLabel full, bool locked)
    {
        uint ring = (uint)target.Layout.RingLength;
        int again = _c.NewLabel();
        int fits = _c.NewLabel();
        int place = _c.NewLabel();
        _c.Mark(again);
        _c.AddImmediate(T, B, LaneLayout.TailOffset);
        _c.Word(LoadAcquire, C, T);
        _c.AddImmediate(T, B, LaneLayout.HeadOffset);
        _c.Word(LoadAcquireExclusive, A, T);
        _c.Subtract(C, A, C);
        _c.Move(U, ring - 1);
        _c.And(U, A, U);
        _c.Move(V, ring - (uint)length);
        _c.Compare(U, V);
        _c.Move(V, (uint)length);
        _c.Branch(Arm64Condition.UnsignedLessOrEqual, fits);

        // The rest of the ring and a record at its start, at once.
        _c.Move(V, ring + (uint)length);
        _c.Subtract(V, V, U);
        _c.Mark(fits);
        _c.Add(C, C, V);
        _c.Move(U, ring);
        _c.Compare(C, U);
        _c.Branch(Arm64Condition.UnsignedGreater, full.Number);
        _c.Add(V, A, V);
        _c.Word(StoreReleaseExclusive, V, T, U);
        _c.BranchIfNotZero32(U, again);
        _c.Move(U, ring - 1);
        _c.And(A, A, U);
        PointTo(target.Layout.RingStart);
        _c.Move(V, ring - (uint)length);
        _c.Compare(A, V);
        _c.Branch(Arm64Condition.UnsignedLessOrEqual, place);
        _c.Move(U, LaneLayout.FillerFlag | ring);
        _c.Subtract(U, U, A);
        _c.Word(Store32ByRegister, U, T, A);
        _c.Move(A, 0);
        _c.Mark(place);
        _c.Add(B, T, A);
        _c.Move(U, LaneLayout.BusyFlag | (uint)length);
        _c.Store32(U, B, LaneLayout.RecordSizeOffset);
    }

    public override void WriteHeader()
    {
        ReadTicks();
        _c.Store(A, B, LaneLayout.RecordTimeOffset);
        MoveSite(Scratch.A, SiteValue.Id);
        _c.Store32(A, B, LaneLayout.RecordSiteOffset);
        if (target.ThreadIdOffset is { } offset)
        {
            _c.Word(ReadThreadPointer, T);
            _c.Move(U, (ulong)offset);
            _c.Word(Load32ByRegister, A, T, U);
            _c.Store32(A, B, LaneLayout.RecordThreadOffset);
        }
        else
        {
            _c.Store32(Zero, B, LaneLayout.RecordThreadOffset);
        }

        _c.Move(A, LaneLayout.UnknownCpu);
        _c.Store32(A, B, LaneLayout.RecordCpuOffset);
    }

    public override void WriteRegister(int offset, int word)
    {
        if (word is >= FirstScratch and < FirstScratch + SavedCount or (int)Arm64Register.Sp)
        {
            LoadRegister(Scratch.A, word);
            word = A;
        }

        _c.Store(word, B, offset);
    }

    public override void WriteConstant(int offset, ulong value)
    {
        _c.Move(A, value);
        _c.Store(A, B, offset);
    }

    public override void Write(int offset, Scratch from) => _c.Store(Number(from), B, offset);

    public override void AddBit(int bit) => _c.Word(0xaa00_0000 | ((uint)bit << 10), C, C, A);

    public override void Commit(uint size)
    {
        _c.Move(A, size);
        _c.Word(StoreRelease32, A, B);
    }

    /// <summary>x12 = B + offset.</summary>
    private void PointTo(int offset)
    {
        _c.Move(T, (ulong)offset);
        _c.Add(T, B, T);
    }
}
