using FastTrap.Usdt;

namespace FastTrap.Programs.Compilation;

internal sealed partial class BodyCompiler
{
    private void CompileOperation(in ProgramInstruction instruction)
    {
        bool isSigned = instruction.Type is ProgramType.Int32 or ProgramType.Int64;
        bool isDouble = instruction.Type == ProgramType.Double;
        switch (instruction.Op)
        {
            case ProgramOp.Argument:
                CompileArgument(sources[(int)instruction.Immediate]);
                break;
            case ProgramOp.ThreadId:
                assembler.LoadThreadId(Scratch.A);
                break;
            case ProgramOp.TimestampNs:
                assembler.ReadTicks();
                assembler.ScaleTicks(target.Ticks!.Value);
                break;
            case ProgramOp.Load:
                assembler.ReadMemory((int)instruction.Immediate & 15);
                assembler.Extend((int)instruction.Immediate);
                break;
            case ProgramOp.Narrow:
                assembler.Extend((int)instruction.Immediate);
                break;
            case ProgramOp.Convert:
                CompileConversion(instruction);
                break;
            case ProgramOp.Negate or ProgramOp.Not:
                assembler.MoveConstant(Scratch.B, isDouble ? 1UL << 63 : instruction.Type == ProgramType.Boolean ? 1 : ulong.MaxValue);
                assembler.Calculate(ProgramOp.Xor, false, true);
                if (instruction.Op == ProgramOp.Negate && !isDouble)
                {
                    assembler.MoveConstant(Scratch.B, 1);
                    assembler.Calculate(ProgramOp.Add, false, true);
                }

                if (instruction.Type != ProgramType.Boolean)
                {
                    Fit(instruction.Type);
                }

                break;
            case ProgramOp.Equal or ProgramOp.Less or ProgramOp.LessOrEqual when instruction.OperandType == ProgramType.Double:
                assembler.CompareDouble(instruction.Op);
                break;
            case ProgramOp.Equal or ProgramOp.Less or ProgramOp.LessOrEqual:
                assembler.Compare(instruction.Op, instruction.OperandType is ProgramType.Int32 or ProgramType.Int64);
                break;
            case var _ when isDouble:
                assembler.CalculateDouble(instruction.Op);
                break;
            case ProgramOp.Divide or ProgramOp.Remainder:
                assembler.Divide(instruction.Op, isSigned, instruction.Type is ProgramType.Int64 or ProgramType.UInt64);
                Fit(instruction.Type);
                break;
            default:
                assembler.Calculate(instruction.Op, isSigned, instruction.Type is ProgramType.Int64 or ProgramType.UInt64);
                Fit(instruction.Type);
                break;
        }
    }

    /// <summary>A 32-bit value as it is kept.</summary>
    private void Fit(ProgramType type)
    {
        switch (type)
        {
            case ProgramType.Int32:
                assembler.Extend(20);
                break;
            case ProgramType.UInt32:
                assembler.Extend(4);
                break;
            case ProgramType.Boolean:
                assembler.MoveConstant(Scratch.B, 1);
                assembler.Calculate(ProgramOp.And, false, true);
                break;
        }
    }

    private void CompileConversion(in ProgramInstruction instruction)
    {
        if (instruction.OperandType == ProgramType.Double && instruction.Type != ProgramType.Double)
        {
            assembler.FromDouble(instruction.Type);
        }
        else if (instruction.Type == ProgramType.Double && instruction.OperandType != ProgramType.Double)
        {
            assembler.ToDouble(instruction.OperandType is not (ProgramType.UInt64 or ProgramType.UInt32));
        }
        else
        {
            Fit(instruction.Type);
        }
    }

    /// <summary>As <see cref="UsdtArgument.TryGetValue"/> does it.</summary>
    private void CompileArgument(UsdtArgument? argument)
    {
        if (argument is null)
        {
            assembler.MoveConstant(Scratch.A, 0);
            assembler.MoveConstant(Scratch.B, 0);
            return;
        }

        UsdtOperand operand = argument.Operand;
        int length = Math.Min(argument.Size, sizeof(ulong));
        int sign = argument.Kind == ArgumentKind.Signed ? 16 : 0;
        switch (operand.Kind)
        {
            case UsdtOperandKind.Constant:
                assembler.MoveConstant(Scratch.A, operand.Value);
                break;
            case UsdtOperandKind.Vector:
                assembler.LoadVector(Scratch.A, operand.Register);
                break;
            case UsdtOperandKind.Register:
                LoadWord(Scratch.A, operand.Register);
                Calculate(ProgramOp.ShiftRight, operand.Shift);
                assembler.Extend(operand.Width + sign);
                break;
            default:
                LoadAddress(operand);
                assembler.ReadMemory(length);
                break;
        }

        assembler.Extend(length + sign);
        if (argument.Kind == ArgumentKind.Floating && argument.Size == sizeof(float))
        {
            assembler.WidenSingle();
        }
    }

    private void LoadAddress(in UsdtOperand operand)
    {
        assembler.MoveConstant(Scratch.A, 0);
        if (operand.Index != UsdtOperand.NoRegister)
        {
            LoadWord(Scratch.A, operand.Index);
            assembler.Extend(operand.Extension switch
            {
                UsdtIndexExtension.SignWord => 20,
                UsdtIndexExtension.ZeroWord => 4,
                _ => 8,
            });
            Calculate(ProgramOp.ShiftLeft, (ulong)int.Log2(operand.Scale));
        }

        if (operand.Register != UsdtOperand.NoRegister)
        {
            LoadWord(Scratch.B, operand.Register);
            assembler.Calculate(ProgramOp.Add, false, true);
        }

        Calculate(ProgramOp.Add, operand.Value);
        if (operand.IsNarrow)
        {
            assembler.Extend(4);
        }

        if (operand.Segment != UsdtOperand.NoRegister)
        {
            assembler.LoadSegmentBase(Scratch.B, operand.Segment);
            assembler.Calculate(ProgramOp.Add, false, true);
        }
    }

    private void LoadWord(Scratch to, int word)
    {
        if (word == ProgramCounterWord)
        {
            assembler.MoveSite(to, SiteValue.Address);
        }
        else
        {
            assembler.LoadRegister(to, word);
        }
    }

    private int ProgramCounterWord => target.Architecture == System.Runtime.InteropServices.Architecture.X64 ? (int)X64Register.Rip : (int)Arm64Register.Pc;

    private void Calculate(ProgramOp op, ulong constant)
    {
        if (constant != 0)
        {
            assembler.MoveConstant(Scratch.B, constant);
            assembler.Calculate(op, false, true);
        }
    }
}
