using FastTrap.Programs.Shared;
using FastTrap.Usdt;

namespace FastTrap.Programs.Compilation;

/// <summary>
/// Lowers a program to code: frame; the filter's values; if it passes, the others; then the guard, the lane, the action. All values are computed before anything is reserved or counted, so that
/// what a signal can interrupt there is short.
/// </summary>
internal sealed partial class BodyCompiler(ProbeProgram program, ProgramAction action, ProgramTarget target, ArgumentSources sources, BodyAssembler assembler)
{
    /// <summary>Words for values on the stack: probed threads may run on small signal stacks.</summary>
    private const int MaximumSlots = 192;

    private readonly ProgramPlan _plan = new(program, action, sources);

    /// <summary>A thread that is in the way has to be stepped out, instruction by instruction.</summary>
    private const int MostSteps = 3500;

    /// <summary>The value that A holds, or -1.</summary>
    private int _inA = -1;

    public CompiledBody? Compile(out ProgramNotCompilable reason)
    {
        reason = FindRefusal();
        if (reason != ProgramNotCompilable.None)
        {
            return null;
        }

        bool isRecord = action.Kind == ProgramActionKind.Record;
        assembler.Enter(_plan.SlotCount + OwnSlots, _plan.ValidityCount, Uses(IsDouble), Uses(IsSystemCall) || action.Texts.Count != 0);
        BodyLabel end = assembler.NewLabel();
        BodyLabel failing = IsEntry ? assembler.NewLabel() : end;
        bool isTraced = target.TracerWord is not null && (Uses(IsLoad) || action.Texts.Count != 0);
        if (isTraced)
        {
            // A fork child has no tracer, either.
            assembler.JumpIfGuarded(target.GuardAddress, end);
            assembler.JumpIfUntraced(target.TracerWord!.Value, end);
        }

        for (int i = 0; i < _plan.FilterLength; i++)
        {
            Evaluate(i);
        }

        if (program.Filter is { } filter)
        {
            LoadValue(Scratch.A, filter);
            assembler.JumpIfZero(Scratch.A, failing);
            if (_plan.CanBeInvalid(filter))
            {
                assembler.LoadValidity(Scratch.A, _plan.ValidityOf(filter));
                assembler.JumpIfZero(Scratch.A, failing);
            }

            _inA = -1;
        }

        for (int i = _plan.FilterLength; i < _plan.Order.Length; i++)
        {
            Evaluate(i);
        }

        _inA = -1;
        if (IsEntry)
        {
            NoteWhetherItCounts(failing);
        }

        if (!isTraced)
        {
            assembler.JumpIfGuarded(target.GuardAddress, end);
        }

        BodyLabel found = assembler.NewLabel();
        assembler.FindLane(found);
        if (isRecord)
        {
            CompileRecord(found, end);
        }
        else if (action.Kind == ProgramActionKind.Latency)
        {
            CompileCall(found, end);
        }
        else
        {
            if (assembler.HasLockedForms)
            {
                CompileCounters(end, true);
                assembler.Jump(end);
            }

            assembler.Mark(found);
            CompileCounters(end, false);
        }

        assembler.Mark(end);
        assembler.Leave();
        return assembler.Finish(RecordLength);
    }

    private int RecordLength => action.Kind != ProgramActionKind.Record ? 0
        : LaneLayout.RecordLength(_plan.Outputs.Length + action.Texts.Sum(t => 1 + WordsOf(t.MaximumLength)), _plan.HasInvalidOutputs);

    private ProgramNotCompilable FindRefusal()
    {
        foreach (int value in _plan.Order)
        {
            ref readonly ProgramInstruction instruction = ref program.Instructions[value];
            switch (instruction.Op)
            {
                case ProgramOp.Remainder when instruction.Type == ProgramType.Double:
                    return ProgramNotCompilable.DoubleRemainder;
                case ProgramOp.TimestampNs when target.Ticks is null:
                    return ProgramNotCompilable.NoTickScale;
                case ProgramOp.Argument when sources[(int)instruction.Immediate] is { Operand: var operand } && !CanReach(operand):
                    return ProgramNotCompilable.UnreachableArgument;
            }

            if (IsSystemCall(value) && !target.AllowsSystemCalls)
            {
                return ProgramNotCompilable.SystemCallsFiltered;
            }
        }

        if (action.Texts.Count != 0 && target.TracerWord is null && !target.AllowsSystemCalls)
        {
            return ProgramNotCompilable.SystemCallsFiltered;
        }

        if (target.TracerWord is not null && action.Texts.Sum(StepsOf) > MostSteps)
        {
            return ProgramNotCompilable.TooManySteps;
        }

        if (action.Kind == ProgramActionKind.Latency && target.Ticks is null)
        {
            return ProgramNotCompilable.NoTickScale;
        }

        return _plan.SlotCount > MaximumSlots || _plan.ValidityCount > MaximumSlots ? ProgramNotCompilable.TooLarge
            : RecordLength > target.Layout.MaximumRecordLength ? ProgramNotCompilable.RecordTooLong
            : ProgramNotCompilable.None;
    }

    private bool CanReach(in UsdtOperand operand) => operand.Segment == UsdtOperand.NoRegister || operand.Segment == (byte)X64Register.FsBase || target.HasReadFsBase;

    private bool Uses(Func<int, bool> feature) => Array.Exists(_plan.Order, v => feature(v));

    private bool IsDouble(int value)
    {
        ref readonly ProgramInstruction instruction = ref program.Instructions[value];
        return instruction.Op switch
        {
            ProgramOp.Argument => sources[(int)instruction.Immediate] is { Kind: ArgumentKind.Floating, Size: sizeof(float) },
            ProgramOp.Convert or ProgramOp.Equal or ProgramOp.Less or ProgramOp.LessOrEqual => instruction.Type == ProgramType.Double || instruction.OperandType == ProgramType.Double,
            ProgramOp.Add or ProgramOp.Subtract or ProgramOp.Multiply or ProgramOp.Divide => instruction.Type == ProgramType.Double,
            _ => false,
        };
    }

    private bool IsSystemCall(int value) =>
        program.Instructions[value].Op == ProgramOp.ThreadId ? target.ThreadIdOffset is null : target.TracerWord is null && IsLoad(value);

    private bool IsLoad(int value)
    {
        ref readonly ProgramInstruction instruction = ref program.Instructions[value];
        return instruction.Op switch
        {
            ProgramOp.Load => true,
            ProgramOp.Argument => sources[(int)instruction.Immediate] is { Operand.Kind: UsdtOperandKind.Memory },
            _ => false,
        };
    }

    /// <summary>The register which is the value, if there is one.</summary>
    private int? WordOf(in ProgramInstruction instruction) => instruction.Op switch
    {
        ProgramOp.ReturnValue => ReturnWord,
        ProgramOp.Argument => sources[(int)instruction.Immediate]?.Operand.Register,
        _ => null,
    };

    private int ReturnWord => ArgumentSources.ForReturn(target.Architecture)[1]!.Operand.Register;

    private void LoadValue(Scratch to, int value)
    {
        if (_inA == value)
        {
            if (to != Scratch.A)
            {
                assembler.Move(to, Scratch.A);
            }

            return;
        }

        ref readonly ProgramInstruction instruction = ref program.Instructions[value];
        if (!_plan.IsImmediate(value))
        {
            assembler.LoadSlot(to, _plan.SlotOf(value));
        }
        else if (WordOf(instruction) is { } word)
        {
            assembler.LoadRegister(to, word);
        }
        else if (instruction.Op is ProgramOp.Argument or ProgramOp.ProgramCounter)
        {
            assembler.MoveSite(to, instruction.Op == ProgramOp.Argument ? SiteValue.FunctionOffset : SiteValue.Address);
        }
        else
        {
            assembler.MoveConstant(to, instruction.Op == ProgramOp.ProcessId ? (ulong)target.ProcessId : instruction.Immediate);
        }

        if (to == Scratch.A)
        {
            _inA = value;
        }
    }

    private void Evaluate(int position)
    {
        int value = _plan.Order[position];
        if (_plan.IsImmediate(value))
        {
            return;
        }

        ref readonly ProgramInstruction instruction = ref program.Instructions[value];
        bool canFail = _plan.CanFail(value);
        bool isOwn = _plan.CanBeInvalid(value) && !IsShared(value);
        if (instruction.Op == ProgramOp.Select)
        {
            CompileSelect(value, instruction, isOwn);
        }
        else
        {
            (int a, int b, _) = ProgramPlan.OperandsOf(instruction);
            if (isOwn && !canFail)
            {
                assembler.LoadValidity(Scratch.B, _plan.ValidityOf(a));
                assembler.AndValidity(Scratch.B, _plan.ValidityOf(b));
                assembler.StoreValidity(_plan.ValidityOf(value), Scratch.B);
            }

            if (a >= 0)
            {
                LoadValue(Scratch.A, a);
            }

            if (b >= 0)
            {
                LoadValue(Scratch.B, b);
            }

            CompileOperation(instruction);
            if (canFail)
            {
                CompileOwnValidity(value, a, b);
            }
        }

        Keep(position, value);
    }

    /// <summary>Whether the value is invalid exactly when one of its operands is, whose byte says it.</summary>
    private bool IsShared(int value)
    {
        (int a, int b, int c) = ProgramPlan.OperandsOf(program.Instructions[value]);
        int own = _plan.ValidityOf(value);
        return (a >= 0 && _plan.ValidityOf(a) == own) || (b >= 0 && _plan.ValidityOf(b) == own) || (c >= 0 && _plan.ValidityOf(c) == own);
    }

    private void CompileOwnValidity(int value, int a, int b)
    {
        if (a >= 0 && _plan.CanBeInvalid(a))
        {
            assembler.AndValidity(Scratch.B, _plan.ValidityOf(a));
        }

        if (b >= 0 && _plan.CanBeInvalid(b))
        {
            assembler.AndValidity(Scratch.B, _plan.ValidityOf(b));
        }

        assembler.StoreValidity(_plan.ValidityOf(value), Scratch.B);
    }

    private void CompileSelect(int value, in ProgramInstruction instruction, bool isOwn)
    {
        if (isOwn)
        {
            LoadValidityOf(Scratch.B, instruction.B);
            LoadValidityOf(Scratch.C, instruction.C);
            LoadValue(Scratch.A, instruction.A);
            assembler.Select();
            _inA = -1;
            if (_plan.CanBeInvalid(instruction.A))
            {
                assembler.AndValidity(Scratch.A, _plan.ValidityOf(instruction.A));
            }

            assembler.StoreValidity(_plan.ValidityOf(value), Scratch.A);
        }

        LoadValue(Scratch.A, instruction.A);
        LoadValue(Scratch.B, instruction.B);
        LoadValue(Scratch.C, instruction.C);
        assembler.Select();
    }

    private void LoadValidityOf(Scratch to, int value)
    {
        if (_plan.CanBeInvalid(value))
        {
            assembler.LoadValidity(to, _plan.ValidityOf(value));
        }
        else
        {
            assembler.MoveConstant(to, 1);
        }
    }

    /// <summary>A holds the result. It is stored, unless the next instruction takes it from there and nobody else wants it.</summary>
    private void Keep(int position, int value)
    {
        _inA = value;
        bool isLastOfFilter = position == _plan.FilterLength - 1 && program.Filter == value;
        if (_plan.UsesOf(value) == 1 && (isLastOfFilter || IsTakenByNext(position, value)))
        {
            return;
        }

        assembler.StoreSlot(_plan.SlotOf(value), Scratch.A);
    }

    private bool IsTakenByNext(int position, int value)
    {
        int next = position + 1;
        while (next < _plan.Order.Length && _plan.IsImmediate(_plan.Order[next]))
        {
            next++;
        }

        // Between the filter and the rest nothing stays.
        if (next >= _plan.Order.Length || (position < _plan.FilterLength && next >= _plan.FilterLength))
        {
            return false;
        }

        int consumer = _plan.Order[next];
        ref readonly ProgramInstruction instruction = ref program.Instructions[consumer];
        (int a, int b, int c) = ProgramPlan.OperandsOf(instruction);
        return a == value && b != value && c < 0;
    }
}
