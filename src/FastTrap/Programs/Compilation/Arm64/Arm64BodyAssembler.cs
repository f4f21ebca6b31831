using System.Runtime.InteropServices;

namespace FastTrap.Programs.Compilation.Arm64;

/// <summary>
/// arm64. A is x9, B x10, C x11; x12 to x14 are the assembler's own. Doubles are computed in v16 and v17, with the default control of floating point whatever the thread's. Words which signal handlers or
/// other threads may change are changed by exclusive loads and stores, so that the common lane needs nothing more.
/// </summary>
/// <remarks>Frame, from sp: slots, validity bytes, the system calls' area, vectors with FPCR and FPSR, then the saved registers and the condition flags. There is no red zone.</remarks>
internal sealed partial class Arm64BodyAssembler(ProgramTarget target) : BodyAssembler
{
    private const int FirstScratch = 9;
    private const int A = 9;
    private const int B = 10;
    private const int C = 11;
    private const int T = 12;
    private const int U = 13;
    private const int V = 14;
    private const int SavedCount = 6;
    private const int Sp = Arm64Encoder.StackPointer;
    private const int Zero = Arm64Encoder.Zero;
    private const int X = 16;
    private const int Y = 17;

    private const int SystemCallArea = 12 * sizeof(ulong);
    private const int SavedArea = (SavedCount + 1) * sizeof(ulong);
    private const int VectorLength = 16;

    /// <summary>The longest that an implementation may have.</summary>
    private const int ScalableVectorLength = 256;

    private const uint ReadNzcv = 0xd53b_4200;
    private const uint WriteNzcv = 0xd51b_4200;
    private const uint ReadFpcr = 0xd53b_4400;
    private const uint WriteFpcr = 0xd51b_4400;
    private const uint ReadFpsr = 0xd53b_4420;
    private const uint WriteFpsr = 0xd51b_4420;
    private const uint ReadThreadPointer = 0xd53b_d040;
    private const uint ReadCounter = 0xd53b_e040;
    private const uint SystemCall = 0xd400_0001;

    private readonly Arm64Encoder _c = new();
    private readonly List<SitePatch> _patches = [];
    private bool _usesDoubles;
    private int _validity;
    private int _systemCall;
    private int _vectors;
    private int _saved;
    private int _frameLength;

    public override bool HasLockedForms => false;

    private int StepOfVectors => target.HasScalableVectors ? ScalableVectorLength : VectorLength;

    public override void Enter(int slots, int bytes, bool usesDoubles, bool usesSystemCalls)
    {
        _usesDoubles = usesDoubles;
        _validity = slots * sizeof(ulong);
        _systemCall = _validity + ((bytes + sizeof(ulong) - 1) & -sizeof(ulong));
        _vectors = (_systemCall + (usesSystemCalls ? SystemCallArea : 0) + VectorLength - 1) & -VectorLength;
        _saved = _vectors + (usesDoubles ? (2 * StepOfVectors) + (2 * sizeof(ulong)) : 0);
        _frameLength = (_saved + SavedArea + VectorLength - 1) & -VectorLength;
        _c.SubtractImmediate(Sp, Sp, _frameLength);
        for (int i = 0; i < SavedCount; i++)
        {
            _c.Store(FirstScratch + i, Sp, _saved + (i * sizeof(ulong)));
        }

        _c.Word(ReadNzcv, A);
        _c.Store(A, Sp, _saved + (SavedCount * sizeof(ulong)));
        if (usesDoubles)
        {
            MoveVectors(0x3d80_0000, 0xe580_4000);
            _c.Word(ReadFpcr, A);
            _c.Store(A, Sp, ControlOffset);
            _c.Word(ReadFpsr, A);
            _c.Store(A, Sp, ControlOffset + sizeof(ulong));
            _c.Word(WriteFpcr, Zero);
        }
    }

    public override void Leave()
    {
        if (_usesDoubles)
        {
            _c.Load(A, Sp, ControlOffset);
            _c.Word(WriteFpcr, A);
            _c.Load(A, Sp, ControlOffset + sizeof(ulong));
            _c.Word(WriteFpsr, A);
            MoveVectors(0x3dc0_0000, 0x8580_4000);
        }

        _c.Load(A, Sp, _saved + (SavedCount * sizeof(ulong)));
        _c.Word(WriteNzcv, A);
        for (int i = 0; i < SavedCount; i++)
        {
            _c.Load(FirstScratch + i, Sp, _saved + (i * sizeof(ulong)));
        }

        _c.AddImmediate(Sp, Sp, _frameLength);
    }

    public override CompiledBody Finish(int recordLength) => new(Architecture.Arm64, _c.Finish(), [.. _patches], recordLength);

    public override BodyLabel NewLabel() => new(_c.NewLabel());

    public override void Mark(BodyLabel label) => _c.Mark(label.Number);

    public override void Jump(BodyLabel label) => _c.Branch(label.Number);

    public override void JumpIfZero(Scratch register, BodyLabel label) => _c.BranchIfZero(Number(register), label.Number);

    public override void MoveConstant(Scratch to, ulong value) => _c.Move(Number(to), value);

    public override void MoveSite(Scratch to, SiteValue value)
    {
        int length = value == SiteValue.Id ? sizeof(uint) : sizeof(ulong);
        _patches.Add(new SitePatch(value, _c.Position, length));
        _c.MoveParts(Number(to), length / sizeof(ushort));
    }

    public override void Move(Scratch to, Scratch from) => _c.MoveRegister(Number(to), Number(from));

    public override void LoadRegister(Scratch to, int word)
    {
        if (word == (int)Arm64Register.Sp)
        {
            _c.AddImmediate(Number(to), Sp, _frameLength);
        }
        else if (word is >= FirstScratch and < FirstScratch + SavedCount)
        {
            _c.Load(Number(to), Sp, _saved + ((word - FirstScratch) * sizeof(ulong)));
        }
        else
        {
            _c.MoveRegister(Number(to), word);
        }
    }

    public override void LoadVector(Scratch to, int number)
    {
        if (_usesDoubles && number is X or Y)
        {
            _c.Load(Number(to), Sp, _vectors + ((number - X) * StepOfVectors));
        }
        else
        {
            _c.Word(0x9e66_0000, Number(to), number);
        }
    }

    public override void LoadSlot(Scratch to, int slot) => _c.Load(Number(to), Sp, slot * sizeof(ulong));

    public override void StoreSlot(int slot, Scratch from) => _c.Store(Number(from), Sp, slot * sizeof(ulong));

    public override void LoadValidity(Scratch to, int number) => _c.LoadByte(Number(to), Sp, _validity + number);

    public override void StoreValidity(int number, Scratch from) => _c.StoreByte(Number(from), Sp, _validity + number);

    public override void AndValidity(Scratch register, int number)
    {
        _c.LoadByte(T, Sp, _validity + number);
        _c.And(Number(register), Number(register), T);
    }

    public override void ClearUnlessC()
    {
        _c.Subtract(C, Zero, C);
        _c.And(A, A, C);
    }

    public override void LoadSegmentBase(Scratch to, int word) => throw new InvalidOperationException("arm64 has no segments.");

    public override void LoadThreadId(Scratch to)
    {
        if (target.ThreadIdOffset is { } offset)
        {
            _c.Word(ReadThreadPointer, T);
            _c.Move(U, (ulong)offset);
            _c.Word(0xb8a0_6800, Number(to), T, U);
            return;
        }

        const int GetThreadId = 178;
        SaveArguments();
        _c.Move(8, GetThreadId);
        _c.Word(SystemCall);
        _c.MoveRegister(T, 0);
        RestoreArguments();
        _c.MoveRegister(Number(to), T);
    }

    public override void ReadTicks() => _c.Word(ReadCounter, A);

    public override void ScaleTicks(in TickScale scale)
    {
        _c.Move(C, scale.BaseTicks);
        _c.Subtract(A, A, C);
        _c.Move(C, scale.Multiplier);
        _c.Word(0x9bc0_7c00, T, A, C);
        _c.Word(0x9b00_7c00, A, A, C);
        _c.Word(0x93c0_8000, A, T, A);
        _c.Move(C, (ulong)scale.BaseNs);
        _c.Add(A, A, C);
    }

    /// <summary>Memory of the frame's own page is there; all other is read by the kernel, which says if it is not.</summary>
    public override void ReadMemory(int length)
    {
        const int PageShift = 12;
        int buffer = _systemCall + 32;
        int byKernel = _c.NewLabel();
        int done = _c.NewLabel();
        for (int end = 0; end < length; end += Math.Max(1, length - 1))
        {
            _c.AddImmediate(T, A, end);
            _c.AddImmediate(U, Sp, _frameLength - sizeof(ulong));
            _c.Word(0xca00_0000, T, T, U);
            _c.ShiftRight(T, T, PageShift);
            _c.BranchIfNotZero(T, byKernel);
        }

        _c.Word(length switch { 1 => 0x3940_0000, 2 => 0x7940_0000, 4 => 0xb940_0000, _ => 0xf940_0000u }, A, A);
        _c.Move(B, 1);
        _c.Branch(done);
        _c.Mark(byKernel);
        _c.Store(Zero, Sp, buffer);
        _c.AddImmediate(T, Sp, buffer);
        CopyByKernel(length);
        _c.Move(T, (ulong)length);
        _c.Compare(A, T);
        _c.Set(B, Arm64Condition.Equal);
        _c.Load(A, Sp, buffer);
        _c.Mark(done);
    }

    public override void ReadText(int offset, int length)
    {
        PointTo(offset);
        CopyByKernel(length);
        _c.Move(T, ulong.MaxValue);
        _c.Compare(A, Zero);
        _c.Select(A, A, T, Arm64Condition.Greater);
    }

    /// <summary>A = how many bytes the kernel has copied from A to x12, or an error.</summary>
    private void CopyByKernel(int length)
    {
        const int ProcessVmReadv = 270;
        int local = _systemCall;
        int remote = _systemCall + 16;
        SaveArguments();
        _c.Store(T, Sp, local);
        _c.Move(T, (ulong)length);
        _c.Store(T, Sp, local + 8);
        _c.Store(A, Sp, remote);
        _c.Store(T, Sp, remote + 8);
        _c.Move(0, (ulong)target.OwnProcessId);
        _c.AddImmediate(1, Sp, local);
        _c.Move(2, 1);
        _c.AddImmediate(3, Sp, remote);
        _c.Move(4, 1);
        _c.Move(5, 0);
        _c.Move(8, ProcessVmReadv);
        _c.Word(SystemCall);
        _c.MoveRegister(A, 0);
        RestoreArguments();
    }

    private static int Number(Scratch register) => FirstScratch + (int)register;

    private int ControlOffset => _vectors + (2 * StepOfVectors);

    private void MoveVectors(uint opcode, uint scalableOpcode)
    {
        for (int i = 0; i < 2; i++)
        {
            int offset = _vectors + (i * StepOfVectors);
            if (target.HasScalableVectors)
            {
                _c.AddImmediate(T, Sp, offset);
                _c.Word(scalableOpcode, X + i, T);
            }
            else
            {
                _c.Word(opcode | ((uint)(offset / VectorLength) << 10), X + i, Sp);
            }
        }
    }

    private void SaveArguments()
    {
        for (int i = 0; i < 7; i++)
        {
            _c.Store(i == 6 ? 8 : i, Sp, _systemCall + 40 + (i * sizeof(ulong)));
        }
    }

    private void RestoreArguments()
    {
        for (int i = 0; i < 7; i++)
        {
            _c.Load(i == 6 ? 8 : i, Sp, _systemCall + 40 + (i * sizeof(ulong)));
        }
    }
}
