using System.Runtime.InteropServices;
using FastTrap.Programs.Shared;

namespace FastTrap.Programs.Compilation;

/// <summary>What is gathered in tables: counts by key (<see cref="KeyTable"/>), and calls (<see cref="CallStack"/>). A is an index there, B the lane.</summary>
internal sealed partial class BodyCompiler
{
    /// <summary>Words of the frame behind those of values.</summary>
    private const int TableSlots = 3;

    private int OwnSlots => action.Keys is not null || action.Calls is not null ? TableSlots : action.Texts.Count != 0 ? StackSlots : 0;

    private bool IsEntry => action.Calls is not null && !sources.IsReturn;

    private int LaneSlot => _plan.SlotCount;

    private int IndexSlot => _plan.SlotCount + 1;

    private int LeftSlot => _plan.SlotCount + 2;

    private int StateSlot => _plan.SlotCount;

    private int TicksSlot => _plan.SlotCount + 1;

    private int StartSlot => _plan.SlotCount + 2;

    private int StackPointerWord => target.Architecture == Architecture.X64 ? (int)X64Register.Rsp : (int)Arm64Register.Sp;

    private int At(int word) => target.CountersOffset + (word * sizeof(ulong));

    private void CompileKey(KeyTable keys, int output, BodyLabel end, bool locked)
    {
        int pairs = At(KeyTable.PairsWord);
        int last = keys.Size * KeyTable.PairWords;
        BodyLabel again = assembler.NewLabel();
        BodyLabel isZero = assembler.NewLabel();
        BodyLabel first = assembler.NewLabel();
        BodyLabel look = assembler.NewLabel();
        BodyLabel free = assembler.NewLabel();
        BodyLabel around = assembler.NewLabel();
        BodyLabel taken = assembler.NewLabel();
        BodyLabel tooMany = assembler.NewLabel();
        BodyLabel full = assembler.NewLabel();
        BodyLabel found = assembler.NewLabel();
        assembler.StoreSlot(LaneSlot, Scratch.B);
        assembler.Mark(again);
        LoadValue(Scratch.C, output);
        assembler.JumpIfZero(Scratch.C, isZero);
        assembler.Hash(keys.HashShift);
        assembler.Mark(first);
        assembler.JumpIfIndexed(pairs, found);
        assembler.StoreSlot(IndexSlot, Scratch.A);
        assembler.MoveConstant(Scratch.A, (ulong)keys.Size + 1);
        assembler.StoreSlot(LeftSlot, Scratch.A);
        assembler.LoadSlot(Scratch.A, IndexSlot);

        // First whether it is free: one that is not stays as it is.
        assembler.Mark(look);
        assembler.StoreSlot(IndexSlot, Scratch.A);
        assembler.LoadIndexed(Scratch.A, pairs);
        assembler.JumpIfZero(Scratch.A, free);
        assembler.LoadSlot(Scratch.A, IndexSlot);
        assembler.JumpIfIndexed(pairs, found);
        assembler.CountDown(LeftSlot, full);
        assembler.AddConstant(Scratch.A, KeyTable.PairWords);
        assembler.JumpIfAtLeast(Scratch.A, last, around);
        assembler.Jump(look);
        assembler.Mark(around);
        assembler.MoveConstant(Scratch.A, 0);
        assembler.Jump(look);

        assembler.Mark(free);
        assembler.Increment(At(KeyTable.UsedWord), locked);
        assembler.LoadWord(Scratch.A, At(KeyTable.UsedWord));
        assembler.JumpIfAtLeast(Scratch.A, keys.Capacity + 1, tooMany);
        assembler.LoadSlot(Scratch.A, IndexSlot);
        assembler.Claim(pairs, taken, locked);
        assembler.Increment(pairs + sizeof(ulong), locked);
        assembler.Jump(end);

        // A signal's handler, or in the common lane another thread, was faster.
        assembler.Mark(taken);
        assembler.LoadSlot(Scratch.B, LaneSlot);
        assembler.MoveConstant(Scratch.C, ulong.MaxValue);
        assembler.AddTo(At(KeyTable.UsedWord), locked);
        assembler.Jump(again);

        assembler.Mark(tooMany);
        assembler.MoveConstant(Scratch.C, ulong.MaxValue);
        assembler.AddTo(At(KeyTable.UsedWord), locked);
        assembler.Mark(full);
        assembler.Increment(At(KeyTable.OthersWord), locked);
        assembler.Jump(end);

        assembler.Mark(isZero);
        assembler.MoveConstant(Scratch.A, (ulong)last);
        assembler.MoveConstant(Scratch.C, 1);
        assembler.Jump(first);

        assembler.Mark(found);
        assembler.IncrementIndexed(pairs + sizeof(ulong), locked);
    }

    /// <summary>An entry whose filter does not pass goes the same way, with the time 0.</summary>
    private void NoteWhetherItCounts(BodyLabel failing)
    {
        if (program.Filter is null)
        {
            return;
        }

        BodyLabel noted = assembler.NewLabel();
        assembler.MoveConstant(Scratch.A, 1);
        assembler.Jump(noted);
        assembler.Mark(failing);
        assembler.MoveConstant(Scratch.A, 0);
        assembler.Mark(noted);
        assembler.StoreSlot(TicksSlot, Scratch.A);
    }

    /// <summary>Calls of threads that share the common lane are counted as lost.</summary>
    private void CompileCall(BodyLabel found, BodyLabel end)
    {
        if (IsEntry)
        {
            JumpIfNotCounting(end);
            assembler.Increment(At(CallStack.EntriesWord), true);
            assembler.Increment(At(CallStack.LostWord), true);
        }

        assembler.Jump(end);
        assembler.Mark(found);
        if (IsEntry)
        {
            CompileEntry(action.Calls!);
        }
        else
        {
            CompileReturn(action.Calls!, end);
        }
    }

    private void JumpIfNotCounting(BodyLabel label)
    {
        if (program.Filter is not null)
        {
            assembler.LoadSlot(Scratch.A, TicksSlot);
            assembler.JumpIfZero(Scratch.A, label);
        }
    }

    private void CompileEntry(CallStack calls)
    {
        int at = At(CallStack.CallsWord);
        BodyLabel again = assembler.NewLabel();
        BodyLabel forget = assembler.NewLabel();
        BodyLabel live = assembler.NewLabel();
        BodyLabel place = assembler.NewLabel();
        BodyLabel full = assembler.NewLabel();
        BodyLabel done = assembler.NewLabel();
        BodyLabel start = assembler.NewLabel();
        JumpIfNotCounting(start);
        assembler.Increment(At(CallStack.EntriesWord), false);
        assembler.ReadTicks();
        assembler.StoreSlot(TicksSlot, Scratch.A);
        assembler.Mark(start);
        assembler.LoadRegister(Scratch.A, StackPointerWord);
        assembler.StoreSlot(StartSlot, Scratch.A);

        assembler.Mark(again);
        assembler.LoadState(At(CallStack.StateWord), StateSlot);
        assembler.JumpIfAtLeast(Scratch.A, calls.Limit + 1, full);
        assembler.Mark(forget);
        assembler.JumpIfAtLeast(Scratch.A, CallStack.CallWords, live);
        assembler.Jump(place);
        assembler.Mark(live);
        assembler.LoadIndexed(Scratch.C, at - (CallStack.CallWords * sizeof(ulong)));
        assembler.SubtractFromSlot(StartSlot);
        BodyLabel keep = assembler.NewLabel();
        assembler.JumpIfAtLeast(Scratch.C, (int)CallStack.Reach, keep);
        assembler.AddConstant(Scratch.A, -CallStack.CallWords);
        assembler.Jump(forget);
        assembler.Mark(keep);
        assembler.JumpIfAtLeast(Scratch.A, calls.Limit, full);

        assembler.Mark(place);
        assembler.LoadSlot(Scratch.C, StartSlot);
        assembler.StoreIndexed(at);
        assembler.MoveSite(Scratch.C, SiteValue.Function);
        assembler.StoreIndexed(at + sizeof(ulong));
        assembler.LoadSlot(Scratch.C, TicksSlot);
        assembler.StoreIndexed(at + (2 * sizeof(ulong)));
        assembler.AddConstant(Scratch.A, CallStack.CallWords);
        assembler.ReplaceState(At(CallStack.StateWord), StateSlot, again);
        assembler.Jump(done);

        assembler.Mark(full);
        assembler.MoveConstant(Scratch.A, 0);
        assembler.ReplaceState(At(CallStack.StateWord), StateSlot, again);
        assembler.MoveConstant(Scratch.C, (ulong)(calls.Limit / CallStack.CallWords));
        assembler.AddTo(At(CallStack.LostWord), false);
        assembler.Jump(again);
        assembler.Mark(done);
    }

    private void CompileReturn(CallStack calls, BodyLabel end)
    {
        int at = At(CallStack.CallsWord);
        TickScale elapsed = new(0, target.Ticks!.Value.Multiplier, 0);
        BodyLabel again = assembler.NewLabel();
        BodyLabel search = assembler.NewLabel();
        BodyLabel look = assembler.NewLabel();
        BodyLabel here = assembler.NewLabel();
        BodyLabel found = assembler.NewLabel();
        assembler.ReadTicks();
        assembler.StoreSlot(TicksSlot, Scratch.A);
        assembler.Mark(again);
        assembler.LoadState(At(CallStack.StateWord), StateSlot);
        assembler.JumpIfAtLeast(Scratch.A, calls.Limit + 1, end);
        assembler.Mark(search);
        assembler.JumpIfAtLeast(Scratch.A, CallStack.CallWords, look);
        assembler.Jump(end);
        assembler.Mark(look);
        assembler.AddConstant(Scratch.A, -CallStack.CallWords);
        assembler.LoadRegister(Scratch.C, StackPointerWord);
        assembler.JumpIfIndexed(at, here);
        assembler.Jump(search);
        assembler.Mark(here);
        assembler.MoveSite(Scratch.C, SiteValue.Function);
        assembler.JumpIfIndexed(at + sizeof(ulong), found);
        assembler.Jump(search);

        assembler.Mark(found);
        assembler.LoadIndexed(Scratch.C, at + (2 * sizeof(ulong)));
        assembler.StoreSlot(StartSlot, Scratch.C);
        assembler.ReplaceState(At(CallStack.StateWord), StateSlot, again);
        assembler.LoadSlot(Scratch.C, StartSlot);
        assembler.JumpIfZero(Scratch.C, end);
        assembler.SubtractFromSlot(TicksSlot);
        assembler.StoreSlot(StartSlot, Scratch.C);
        assembler.AddTo(At(CallStack.TotalWord), false);
        RaiseElapsed(ProgramAction.EncodeLeast(0), CallStack.LeastWord);
        RaiseElapsed(ProgramAction.EncodeGreatest(0), CallStack.GreatestWord);
        assembler.LoadSlot(Scratch.A, StartSlot);
        assembler.ScaleTicks(elapsed);
        assembler.Move(Scratch.C, Scratch.A);
        assembler.FindPowerStep();
        assembler.IncrementIndexed(At(CallStack.StepsWord), false);
    }

    private void RaiseElapsed(ulong mask, int word)
    {
        assembler.LoadSlot(Scratch.C, StartSlot);
        assembler.XorC(mask);
        assembler.RaiseTo(At(word), false);
    }
}
