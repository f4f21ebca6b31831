namespace FastTrap.Programs.Compilation.Arm64;

internal sealed partial class Arm64BodyAssembler
{
    private const double TwoTo31 = 2147483648.0;
    private const double TwoTo32 = 4294967296.0;
    private const double TwoTo63 = 9223372036854775808.0;
    private const double TwoTo64 = 18446744073709551616.0;

    public override void XorC(ulong value)
    {
        _c.Move(A, value);
        _c.Word(0xca00_0000, C, C, A);
    }

    public override void Calculate(ProgramOp op, bool isSigned, bool isWide)
    {
        if (op is ProgramOp.ShiftLeft or ProgramOp.ShiftRight && !isWide)
        {
            _c.Move(T, 31);
            _c.And(B, B, T);
        }

        _c.Word(
            op switch
            {
                ProgramOp.Add => 0x8b00_0000,
                ProgramOp.Subtract => 0xcb00_0000,
                ProgramOp.Multiply => 0x9b00_7c00,
                ProgramOp.And => 0x8a00_0000,
                ProgramOp.Or => 0xaa00_0000,
                ProgramOp.Xor => 0xca00_0000,
                ProgramOp.ShiftLeft => 0x9ac0_2000,
                _ => isSigned ? 0x9ac0_2800 : 0x9ac0_2400,
            },
            A, A, B);
    }

    /// <summary>The processor would give 0 for a division by 0, and the least value for the one that does not fit.</summary>
    public override void Divide(ProgramOp op, bool isSigned, bool isWide)
    {
        int invalid = _c.NewLabel();
        int divide = _c.NewLabel();
        int done = _c.NewLabel();
        _c.BranchIfZero(B, invalid);
        if (isSigned)
        {
            _c.Move(C, ulong.MaxValue);
            _c.Compare(B, C);
            _c.Branch(Arm64Condition.NotEqual, divide);
            _c.Move(C, (ulong)(isWide ? long.MinValue : int.MinValue));
            _c.Compare(A, C);
            _c.Branch(Arm64Condition.Equal, invalid);
        }

        _c.Mark(divide);
        _c.Word(isSigned ? 0x9ac0_0c00 : 0x9ac0_0800, C, A, B);
        if (op == ProgramOp.Divide)
        {
            _c.MoveRegister(A, C);
        }
        else
        {
            _c.Word(0x9b00_8000 | (A << 10), A, C, B);
        }

        _c.Move(B, 1);
        _c.Branch(done);
        _c.Mark(invalid);
        _c.Move(B, 0);
        _c.Mark(done);
    }

    public override void Compare(ProgramOp op, bool isSigned)
    {
        _c.Compare(A, B);
        _c.Set(A, op switch
        {
            ProgramOp.Equal => Arm64Condition.Equal,
            ProgramOp.Less => isSigned ? Arm64Condition.Less : Arm64Condition.UnsignedLess,
            _ => isSigned ? Arm64Condition.LessOrEqual : Arm64Condition.UnsignedLessOrEqual,
        });
    }

    public override void Select()
    {
        _c.Compare(A, Zero);
        _c.Select(A, B, C, Arm64Condition.NotEqual);
    }

    public override void Extend(int length)
    {
        switch (length)
        {
            case 1:
                _c.Word(0x5300_1c00, A, A);
                break;
            case 2:
                _c.Word(0x5300_3c00, A, A);
                break;
            case 4:
                _c.Word(0x2a00_03e0, A, 0, A);
                break;
            case 17:
                _c.Word(0x9340_1c00, A, A);
                break;
            case 18:
                _c.Word(0x9340_3c00, A, A);
                break;
            case 20:
                _c.Word(0x9340_7c00, A, A);
                break;
        }
    }

    public override void CalculateDouble(ProgramOp op)
    {
        ToVectors();
        _c.Word(
            op switch
            {
                ProgramOp.Add => 0x1e60_2800,
                ProgramOp.Subtract => 0x1e60_3800,
                ProgramOp.Multiply => 0x1e60_0800,
                _ => 0x1e60_1800u,
            },
            X, X, Y);
        FromVector();
    }

    public override void CompareDouble(ProgramOp op)
    {
        ToVectors();
        CompareVectors(X, Y);
        _c.Set(A, ConditionOf(op));
    }

    public override void ToDouble(bool isSigned)
    {
        _c.Word(isSigned ? 0x9e62_0000 : 0x9e63_0000, X, A);
        FromVector();
    }

    public override void WidenSingle()
    {
        _c.Word(0x1e27_0000, X, A);
        _c.Word(0x1e22_c000, X, X);
        FromVector();
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
        _c.Move(B, BitConverter.DoubleToUInt64Bits(low));
        ToVectors();
        CompareVectors(Y, X);
        _c.Set(B, ConditionOf(type == ProgramType.Int64 ? ProgramOp.LessOrEqual : ProgramOp.Less));
        _c.Move(C, BitConverter.DoubleToUInt64Bits(high));
        _c.Word(0x9e67_0000, Y, C);
        CompareVectors(X, Y);
        _c.Set(C, ConditionOf(ProgramOp.Less));
        _c.And(B, B, C);
        _c.Word(type == ProgramType.UInt64 ? 0x9e79_0000 : 0x9e78_0000, A, X);
    }

    public override void FindPowerStep()
    {
        _c.Word(0xdac0_1000, A, C);
        _c.Move(T, 65);
        _c.Subtract(A, T, A);
        _c.Compare(C, Zero);
        _c.Select(A, Zero, A, Arm64Condition.Less);
    }

    public override void FindLinearStep(long least, long step, int count)
    {
        int below = _c.NewLabel();
        int done = _c.NewLabel();
        _c.Move(A, (ulong)least);
        _c.Compare(C, A);
        _c.Branch(Arm64Condition.Less, below);
        _c.Subtract(C, C, A);
        _c.Move(T, (ulong)step);
        _c.Word(0x9ac0_0800, A, C, T);
        _c.Move(U, (ulong)(count - 2));
        _c.Compare(A, U);
        _c.Select(A, U, A, Arm64Condition.UnsignedGreater);
        _c.AddImmediate(A, A, 1);
        _c.Branch(done);
        _c.Mark(below);
        _c.Move(A, 0);
        _c.Mark(done);
    }

    /// <summary>What is true of two doubles by the flags of a comparison; of what is no number nothing.</summary>
    private static Arm64Condition ConditionOf(ProgramOp op) => op switch
    {
        ProgramOp.Equal => Arm64Condition.Equal,
        ProgramOp.Less => Arm64Condition.Negative,
        _ => Arm64Condition.UnsignedLessOrEqual,
    };

    private void ToVectors()
    {
        _c.Word(0x9e67_0000, X, A);
        _c.Word(0x9e67_0000, Y, B);
    }

    private void FromVector() => _c.Word(0x9e66_0000, A, X);

    private void CompareVectors(int n, int m) => _c.Word(0x1e60_2000, 0, n, m);
}
