using System.Runtime.InteropServices;

namespace FastTrap.Programs.Compilation;

/// <summary>Texts and user stacks in records. They are read into the record itself, between its reservation and its commit, for a thread's stack has no room for them.</summary>
internal sealed partial class BodyCompiler
{
    /// <summary>As the tracer's own walk has them.</summary>
    private const int MaximumFrame = 1 << 20;
    private const int LeastReturnAddress = 4097;
    private const ulong UnsignedArm64 = (1UL << 48) - 1;

    private const int StackSlots = 5;

    private int RecordSlot => _plan.SlotCount;

    private int AboveSlot => _plan.SlotCount + 1;

    private int FrameSlot => _plan.SlotCount + 2;

    private int CountSlot => _plan.SlotCount + 3;

    private int NextSlot => _plan.SlotCount + 4;

    private bool IsArm64 => target.Architecture == Architecture.Arm64;

    /// <summary>Instructions that are executed for a text, or a stack, at most.</summary>
    private static int StepsOf((int Address, int Length) text)
    {
        const int StepsOfAFrame = 60;
        const int StepsOfAWord = 20;
        return text.Address == RecordLayout.IsStack ? WordsOf(text.Length) * StepsOfAFrame : (WordsOf(text.Length) + sizeof(ulong)) * StepsOfAWord;
    }

    private static int WordsOf(int length) => (length + sizeof(ulong) - 1) / sizeof(ulong);

    private void WriteTexts(int at)
    {
        assembler.StoreSlot(RecordSlot, Scratch.B);
        foreach ((int address, int length) in action.Texts)
        {
            if (address == RecordLayout.IsStack)
            {
                WriteStack(at, length / sizeof(ulong));
            }
            else
            {
                WriteText(at, program.Outputs[address], length);
            }

            at += (1 + WordsOf(length)) * sizeof(ulong);
        }
    }

    private void WriteText(int at, int output, int length)
    {
        BodyLabel none = assembler.NewLabel();
        BodyLabel done = assembler.NewLabel();
        if (_plan.CanBeInvalid(output))
        {
            assembler.LoadValidity(Scratch.A, _plan.ValidityOf(output));
            assembler.JumpIfZero(Scratch.A, none);
        }

        _inA = -1;
        LoadValue(Scratch.A, output);
        _inA = -1;
        assembler.ReadText(at + sizeof(ulong), length);
        assembler.Jump(done);
        assembler.Mark(none);
        assembler.MoveConstant(Scratch.A, RecordLayout.NoText);
        assembler.Mark(done);
        assembler.Write(at, Scratch.A);
    }

    /// <summary>The site; the caller, where no frame stands; then frame by frame. Memory that cannot be read ends it.</summary>
    private void WriteStack(int at, int depth)
    {
        int frames = at + sizeof(ulong);
        BodyLabel next = assembler.NewLabel();
        BodyLabel caller = assembler.NewLabel();
        BodyLabel inside = assembler.NewLabel();
        BodyLabel done = assembler.NewLabel();
        assembler.MoveSite(Scratch.A, SiteValue.Address);
        assembler.Write(frames, Scratch.A);
        assembler.MoveConstant(Scratch.A, 1);
        assembler.StoreSlot(CountSlot, Scratch.A);
        assembler.LoadRegister(Scratch.A, StackPointerWord);
        assembler.StoreSlot(AboveSlot, Scratch.A);
        assembler.LoadRegister(Scratch.A, IsArm64 ? (int)Arm64Register.X0 + 29 : (int)X64Register.Rbp);
        assembler.StoreSlot(FrameSlot, Scratch.A);
        if (!sources.IsReturn)
        {
            assembler.MoveSite(Scratch.A, SiteValue.FunctionOffset);
            assembler.JumpIfZero(Scratch.A, caller);
            assembler.Jump(next);
        }

        assembler.Mark(caller);
        if (IsArm64)
        {
            assembler.LoadRegister(Scratch.A, (int)Arm64Register.X30);
        }
        else
        {
            assembler.LoadRegister(Scratch.A, StackPointerWord);
            ReadWord(next);
        }

        AddFrame(frames, depth, done);
        assembler.Mark(next);
        assembler.LoadSlot(Scratch.A, CountSlot);
        assembler.JumpIfAtLeast(Scratch.A, depth, done);

        // How far the frame is above the last, which it has to be, and aligned.
        assembler.LoadSlot(Scratch.C, AboveSlot);
        assembler.SubtractFromSlot(FrameSlot);
        assembler.JumpIfAtLeast(Scratch.C, MaximumFrame, done);
        assembler.LoadSlot(Scratch.A, FrameSlot);
        assembler.MoveConstant(Scratch.B, sizeof(ulong) - 1);
        assembler.Calculate(ProgramOp.And, false, true);
        assembler.JumpIfZero(Scratch.A, inside);
        assembler.Jump(done);
        assembler.Mark(inside);
        assembler.LoadSlot(Scratch.A, FrameSlot);
        ReadWord(done);
        assembler.StoreSlot(NextSlot, Scratch.A);
        assembler.LoadSlot(Scratch.A, FrameSlot);
        assembler.AddConstant(Scratch.A, sizeof(ulong));
        ReadWord(done);
        BodyLabel isAddress = assembler.NewLabel();
        assembler.JumpIfAtLeast(Scratch.A, LeastReturnAddress, isAddress);
        assembler.Jump(done);
        assembler.Mark(isAddress);
        AddFrame(frames, depth, done);
        assembler.LoadSlot(Scratch.A, FrameSlot);
        assembler.AddConstant(Scratch.A, 2 * sizeof(ulong));
        assembler.StoreSlot(AboveSlot, Scratch.A);
        assembler.LoadSlot(Scratch.A, NextSlot);
        assembler.StoreSlot(FrameSlot, Scratch.A);
        assembler.Jump(next);
        assembler.Mark(done);
        assembler.LoadSlot(Scratch.B, RecordSlot);
        assembler.LoadSlot(Scratch.A, CountSlot);
        assembler.Write(at, Scratch.A);
    }

    /// <summary>A = the word at A; jumps if there is none.</summary>
    private void ReadWord(BodyLabel none)
    {
        assembler.ReadMemory(sizeof(ulong));
        assembler.JumpIfZero(Scratch.B, none);
    }

    /// <summary>Writes the return address in A; jumps if there is no room. Loads B.</summary>
    private void AddFrame(int frames, int depth, BodyLabel full)
    {
        if (IsArm64)
        {
            assembler.MoveConstant(Scratch.B, UnsignedArm64);
            assembler.Calculate(ProgramOp.And, false, true);
        }

        assembler.Move(Scratch.C, Scratch.A);
        assembler.LoadSlot(Scratch.A, CountSlot);
        assembler.JumpIfAtLeast(Scratch.A, depth, full);
        assembler.LoadSlot(Scratch.B, RecordSlot);
        assembler.StoreIndexed(frames);
        assembler.AddConstant(Scratch.A, 1);
        assembler.StoreSlot(CountSlot, Scratch.A);
    }
}
