using System.Buffers.Binary;

namespace FastTrap.Programs;

/// <summary>Runs a probe program in the tracer: what the generated code of other mechanisms does, and the oracle of their tests. Allocates nothing.</summary>
internal static class ProgramInterpreter
{
    /// <summary>Runs all instructions.</summary>
    /// <param name="program">The program.</param>
    /// <param name="input">The hit.</param>
    /// <param name="values">Results by instruction; one for each at least.</param>
    /// <param name="valid">Whether each is valid.</param>
    /// <returns>Whether the filter passes.</returns>
    public static bool Run<TInput>(ProbeProgram program, scoped in TInput input, Span<ulong> values, Span<bool> valid)
        where TInput : IProgramInput, allows ref struct
    {
        ReadOnlySpan<ProgramInstruction> instructions = program.Instructions;
        for (int i = 0; i < instructions.Length; i++)
        {
            ref readonly ProgramInstruction instruction = ref instructions[i];
            ulong a = values[instruction.A];
            ulong b = values[instruction.B];
            bool isValid = true;
            ulong result = 0;
            switch (instruction.Op)
            {
                case ProgramOp.Constant:
                    result = instruction.Immediate;
                    break;
                case ProgramOp.Argument:
                    isValid = input.TryGetArgument((int)instruction.Immediate, out result);
                    break;
                case ProgramOp.ReturnValue:
                    result = input.ReturnValue;
                    break;
                case ProgramOp.ThreadId:
                    result = (ulong)input.ThreadId;
                    break;
                case ProgramOp.ProcessId:
                    result = (ulong)input.ProcessId;
                    break;
                case ProgramOp.TimestampNs:
                    result = (ulong)input.TimestampNs;
                    break;
                case ProgramOp.ProgramCounter:
                    result = input.ProgramCounter;
                    break;
                case ProgramOp.Load:
                    isValid = valid[instruction.A] && TryLoad(input, a, (int)instruction.Immediate, out result);
                    break;
                case ProgramOp.Narrow:
                    isValid = valid[instruction.A];
                    result = Extend(a, (int)instruction.Immediate);
                    break;
                case ProgramOp.Convert:
                    isValid = valid[instruction.A] && TryConvert(a, instruction.OperandType, instruction.Type, out result);
                    break;
                case ProgramOp.Negate:
                    isValid = valid[instruction.A];
                    result = instruction.Type == ProgramType.Double ? Bits(-Double(a)) : Fit(0 - a, instruction.Type);
                    break;
                case ProgramOp.Not:
                    isValid = valid[instruction.A];
                    result = instruction.Type == ProgramType.Boolean ? a ^ 1 : Fit(~a, instruction.Type);
                    break;
                case ProgramOp.Select:
                    int chosen = a != 0 ? instruction.B : instruction.C;
                    isValid = valid[instruction.A] && valid[chosen];
                    result = values[chosen];
                    break;
                case ProgramOp.Equal or ProgramOp.Less or ProgramOp.LessOrEqual:
                    isValid = valid[instruction.A] && valid[instruction.B];
                    result = Compare(instruction.Op, instruction.OperandType, a, b) ? 1UL : 0;
                    break;
                default:
                    isValid = valid[instruction.A] && valid[instruction.B] && TryCalculate(instruction.Op, instruction.Type, a, b, out result);
                    break;
            }

            values[i] = isValid ? result : 0;
            valid[i] = isValid;
        }

        return program.Filter is not { } filter || (valid[filter] && values[filter] != 0);
    }

    /// <summary>A value of 32 bits as it is kept: extended by its sign or by zeros.</summary>
    private static ulong Fit(ulong value, ProgramType type) => type switch
    {
        ProgramType.Int32 => (ulong)(int)value,
        ProgramType.UInt32 => (uint)value,
        ProgramType.Boolean => value & 1,
        _ => value,
    };

    private static ulong Extend(ulong value, int length) => length switch
    {
        1 => (byte)value,
        2 => (ushort)value,
        4 => (uint)value,
        17 => (ulong)(sbyte)value,
        18 => (ulong)(short)value,
        20 => (ulong)(int)value,
        _ => value,
    };

    private static bool TryLoad<TInput>(scoped in TInput input, ulong address, int length, out ulong value)
        where TInput : IProgramInput, allows ref struct
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        bytes.Clear();
        bool isRead = input.TryRead(address, bytes[..(length & 15)]);
        value = Extend(BinaryPrimitives.ReadUInt64LittleEndian(bytes), length);
        return isRead;
    }

    /// <summary>As C# converts, unchecked; a double that does not fit an integer has no value.</summary>
    private static bool TryConvert(ulong value, ProgramType from, ProgramType to, out ulong result)
    {
        result = value;
        if (from == ProgramType.Double && to != ProgramType.Double)
        {
            double truncated = Math.Truncate(Double(value));
            switch (to)
            {
                case ProgramType.Int32 when truncated is >= int.MinValue and <= int.MaxValue:
                    result = (ulong)(int)truncated;
                    return true;
                case ProgramType.UInt32 when truncated is >= 0 and <= uint.MaxValue:
                    result = (uint)truncated;
                    return true;
                case ProgramType.Int64 when truncated is >= long.MinValue and < 9223372036854775808.0:
                    result = (ulong)(long)truncated;
                    return true;
                case ProgramType.UInt64 when truncated is >= 0 and < 18446744073709551616.0:
                    result = (ulong)truncated;
                    return true;
                default:
                    return false;
            }
        }

        if (to == ProgramType.Double)
        {
            result = from switch
            {
                ProgramType.Double => value,
                ProgramType.UInt64 or ProgramType.UInt32 => Bits(value),
                _ => Bits((long)value),
            };
            return true;
        }

        result = Fit(value, to);
        return true;
    }

    private static bool TryCalculate(ProgramOp op, ProgramType type, ulong a, ulong b, out ulong result)
    {
        if (type == ProgramType.Double)
        {
            result = Bits(op switch
            {
                ProgramOp.Add => Double(a) + Double(b),
                ProgramOp.Subtract => Double(a) - Double(b),
                ProgramOp.Multiply => Double(a) * Double(b),
                ProgramOp.Divide => Double(a) / Double(b),
                _ => Double(a) % Double(b),
            });
            return true;
        }

        bool isSigned = type is ProgramType.Int32 or ProgramType.Int64;
        bool isWide = type is ProgramType.Int64 or ProgramType.UInt64;
        result = 0;
        switch (op)
        {
            case ProgramOp.Add:
                result = a + b;
                break;
            case ProgramOp.Subtract:
                result = a - b;
                break;
            case ProgramOp.Multiply:
                result = a * b;
                break;
            case ProgramOp.Divide or ProgramOp.Remainder when b == 0:
                return false;
            case ProgramOp.Divide or ProgramOp.Remainder when isSigned && b == ulong.MaxValue:
                // The least value divided by -1 has no result, and faults in a processor.
                if (a == (isWide ? unchecked((ulong)long.MinValue) : unchecked((ulong)int.MinValue)))
                {
                    return false;
                }

                result = op == ProgramOp.Divide ? 0 - a : 0;
                break;
            case ProgramOp.Divide:
                result = isSigned ? (ulong)((long)a / (long)b) : a / b;
                break;
            case ProgramOp.Remainder:
                result = isSigned ? (ulong)((long)a % (long)b) : a % b;
                break;
            case ProgramOp.And:
                result = a & b;
                break;
            case ProgramOp.Or:
                result = a | b;
                break;
            case ProgramOp.Xor:
                result = a ^ b;
                break;
            case ProgramOp.ShiftLeft:
                result = a << (int)(b & (isWide ? 63UL : 31));
                break;
            case ProgramOp.ShiftRight:
                int count = (int)(b & (isWide ? 63UL : 31));
                result = isSigned ? (ulong)((long)a >> count) : a >> count;
                break;
        }

        result = Fit(result, type);
        return true;
    }

    private static bool Compare(ProgramOp op, ProgramType type, ulong a, ulong b)
    {
        if (type == ProgramType.Double)
        {
            return op switch
            {
                ProgramOp.Equal => Double(a) == Double(b),
                ProgramOp.Less => Double(a) < Double(b),
                _ => Double(a) <= Double(b),
            };
        }

        // Values of 32 bits are kept extended, so that the comparison of 64 bits is theirs.
        bool isSigned = type is ProgramType.Int32 or ProgramType.Int64;
        return op switch
        {
            ProgramOp.Equal => a == b,
            ProgramOp.Less => isSigned ? (long)a < (long)b : a < b,
            _ => isSigned ? (long)a <= (long)b : a <= b,
        };
    }

    private static double Double(ulong bits) => BitConverter.UInt64BitsToDouble(bits);

    private static ulong Bits(double value) => BitConverter.DoubleToUInt64Bits(value);
}
