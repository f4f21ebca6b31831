using FastTrap.Programs.Shared;

namespace FastTrap.Programs.Compilation;

internal sealed partial class BodyCompiler
{
    private void CompileCounters(BodyLabel end, bool locked)
    {
        int at = target.CountersOffset;
        if (action.Kind == ProgramActionKind.Count)
        {
            assembler.Increment(at, locked);
            return;
        }

        if (action.Kind == ProgramActionKind.CountBySite)
        {
            assembler.MoveSite(Scratch.A, SiteValue.Id);
            assembler.IncrementIndexed(at, locked);
            return;
        }

        int output = _plan.Outputs[0];
        int incomplete = at + (sizeof(ulong) * (action.Keys is null ? action.CounterCount - 1 : KeyTable.IncompleteWord));
        BodyLabel isValid = assembler.NewLabel();
        BodyLabel isInvalid = assembler.NewLabel();
        if (_plan.CanBeInvalid(output))
        {
            assembler.LoadValidity(Scratch.A, _plan.ValidityOf(output));
            assembler.JumpIfZero(Scratch.A, isInvalid);
            assembler.Jump(isValid);
            assembler.Mark(isInvalid);
            assembler.Increment(incomplete, locked);
            assembler.Jump(end);
            assembler.Mark(isValid);
        }

        if (action.Keys is { } keys)
        {
            CompileKey(keys, output, end, locked);
            return;
        }

        LoadValue(Scratch.C, output);
        if (action.Kind == ProgramActionKind.Histogram)
        {
            if (action.Scale.Step == 0)
            {
                assembler.FindPowerStep();
            }
            else
            {
                assembler.FindLinearStep(action.Scale.Least, action.Scale.Step, action.Scale.Count);
            }

            assembler.IncrementIndexed(at, locked);
            return;
        }

        assembler.Increment(at + (sizeof(ulong) * ProgramAction.SumHits), locked);
        assembler.AddTo(at + (sizeof(ulong) * ProgramAction.SumTotal), locked);
        RaiseEncoded(output, ProgramAction.EncodeLeast(0), at + (sizeof(ulong) * ProgramAction.SumLeast), locked);
        RaiseEncoded(output, ProgramAction.EncodeGreatest(0), at + (sizeof(ulong) * ProgramAction.SumGreatest), locked);
    }

    /// <summary>Least and greatest are both kept as the greatest of encoded values.</summary>
    private void RaiseEncoded(int output, ulong mask, int offset, bool locked)
    {
        LoadValue(Scratch.C, output);
        assembler.XorC(mask);
        assembler.RaiseTo(offset, locked);
    }

    private void CompileRecord(BodyLabel found, BodyLabel end)
    {
        BodyLabel full = assembler.NewLabel();
        BodyLabel write = assembler.NewLabel();
        if (assembler.HasLockedForms)
        {
            BodyLabel commonFull = assembler.NewLabel();
            assembler.Reserve(RecordLength, commonFull, true);
            assembler.Jump(write);
            assembler.Mark(commonFull);
            assembler.Increment(LaneLayout.DropsOffset, true);
            assembler.Jump(end);
        }
        else
        {
            assembler.Jump(found);
        }

        assembler.Mark(full);
        assembler.Increment(LaneLayout.DropsOffset, false);
        assembler.Jump(end);
        assembler.Mark(found);
        assembler.Reserve(RecordLength, full, false);
        assembler.Mark(write);
        assembler.WriteHeader();
        int at = LaneLayout.RecordHeaderLength;
        if (_plan.HasInvalidOutputs)
        {
            WriteValidity(at);
            at += sizeof(ulong);
        }

        foreach (int output in _plan.Outputs)
        {
            WriteOutput(at, output);
            at += sizeof(ulong);
        }

        if (action.Texts.Count != 0)
        {
            WriteTexts(at);
        }

        assembler.Commit((uint)RecordLength | (_plan.HasInvalidOutputs ? LaneLayout.ValidityFlag : 0));
    }

    private void WriteValidity(int at)
    {
        ulong always = 0;
        for (int i = 0; i < _plan.Outputs.Length; i++)
        {
            always |= _plan.CanBeInvalid(_plan.Outputs[i]) ? 0 : 1UL << i;
        }

        assembler.MoveConstant(Scratch.C, always);
        for (int i = 0; i < _plan.Outputs.Length; i++)
        {
            if (_plan.CanBeInvalid(_plan.Outputs[i]))
            {
                assembler.LoadValidity(Scratch.A, _plan.ValidityOf(_plan.Outputs[i]));
                assembler.AddBit(i);
            }
        }

        assembler.Write(at, Scratch.C);
    }

    private void WriteOutput(int at, int output)
    {
        ref readonly ProgramInstruction instruction = ref program.Instructions[output];
        if (!_plan.CanBeInvalid(output) && _plan.IsImmediate(output) && WordOf(instruction) is { } word)
        {
            assembler.WriteRegister(at, word);
        }
        else if (instruction.Op == ProgramOp.Constant)
        {
            assembler.WriteConstant(at, instruction.Immediate);
        }
        else
        {
            _inA = -1;
            LoadValue(Scratch.A, output);
            _inA = -1;
            if (_plan.CanBeInvalid(output))
            {
                assembler.LoadValidity(Scratch.C, _plan.ValidityOf(output));
                assembler.ClearUnlessC();
            }

            assembler.Write(at, Scratch.A);
        }
    }
}
