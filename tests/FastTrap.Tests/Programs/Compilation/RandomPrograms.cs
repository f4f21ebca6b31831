using System.Runtime.InteropServices;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Usdt;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Valid programs of random instructions, and random sources of their arguments.</summary>
/// <param name="random">Where they come from.</param>
/// <param name="machine">Whose memory addresses shall often mean.</param>
internal sealed class RandomPrograms(Random random, IBodyMachine machine)
{
    private static readonly ProgramType[] s_types = Enum.GetValues<ProgramType>();
    private static readonly int[] s_lengths = [1, 2, 4, 8, 17, 18, 20, 24];

    private readonly List<ProgramInstruction> _instructions = [];

    public ProbeProgram Next(int length, int outputs)
    {
        _instructions.Clear();
        while (_instructions.Count < length)
        {
            Add();
        }

        int? filter = random.Next(3) != 0 && Find(ProgramType.Boolean) is var found and >= 0 ? found : null;
        return new ProbeProgram(_instructions, filter, [.. Enumerable.Range(0, outputs).Select(_ => _instructions.Count - 1 - random.Next(Math.Min(6, _instructions.Count)))]);
    }

    /// <summary>Sources of a random kind; whether the site is one of a return.</summary>
    public ArgumentSources NextSources() => random.Next(4) switch
    {
        0 => ArgumentSources.ForReturn(machine.Architecture),
        1 => ArgumentSources.ForStatic(Enumerable.Range(0, random.Next(1, 8)).Select(_ => NextStatic())),
        _ => ArgumentSources.ForEntry(machine.Architecture),
    };

    /// <summary>A register's value: an address where something is, or any.</summary>
    public ulong NextValue() => random.Next(8) switch
    {
        0 => machine.DataAddress + (ulong)random.Next(machine.Data.Length),
        1 => machine.DataAddress + 4096 - (ulong)random.Next(9),
        2 => machine.DataAddress + (ulong)machine.Data.Length - (ulong)random.Next(12),
        3 => machine.StackAddress + 4096 + (ulong)random.Next(2048, 4000),
        4 => (ulong)(long)random.Next(-40, 40),
        5 => (ulong)random.Next(),
        6 => BitConverter.DoubleToUInt64Bits(NextDouble()),
        _ => (ulong)random.NextInt64() << random.Next(64),
    };

    public double NextDouble() => random.Next(10) switch
    {
        0 => double.NaN,
        1 => double.PositiveInfinity,
        2 => 0.0 * -1,
        3 => Math.ScaleB(random.NextDouble() - 0.5, random.Next(-1074, 1024)),
        4 => (random.Next(2) == 0 ? 1 : -1) * Math.ScaleB(1, random.Next(29, 66)),
        5 => (random.Next(2) == 0 ? 1 : -1) * (Math.ScaleB(1, 31) + random.Next(-3, 3) + random.NextDouble()),
        6 => Math.BitDecrement(Math.ScaleB(1, random.Next(30, 65))),
        _ => random.Next(-100, 100) / 8.0,
    };

    private void Add()
    {
        ProgramType type = s_types[random.Next(s_types.Length)];
        bool isInteger = type is not ProgramType.Boolean and not ProgramType.Double;
        switch (random.Next(24))
        {
            case 0 or 1:
                Add(ProgramOp.Constant, type, type, 0, 0, 0, Constant(type));
                break;
            case 2 or 3 or 4:
                Add(ProgramOp.Argument, ProgramType.UInt64, ProgramType.UInt64, 0, 0, 0, (ulong)(random.Next(6) == 0 ? random.Next(64) : random.Next(8)));
                break;
            case 5:
                (ProgramOp op, ProgramType own) = random.Next(4) switch
                {
                    0 => (ProgramOp.ReturnValue, ProgramType.UInt64),
                    1 => (ProgramOp.ThreadId, ProgramType.Int32),
                    2 => (ProgramOp.ProcessId, ProgramType.Int32),
                    _ => (ProgramOp.ProgramCounter, ProgramType.UInt64),
                };
                Add(op, own, own, 0, 0, 0, 0);
                break;
            case 6 or 7 when Find(ProgramType.UInt64) is var address and >= 0:
                Add(ProgramOp.Load, type, ProgramType.UInt64, address, 0, 0, (ulong)s_lengths[random.Next(s_lengths.Length)]);
                break;
            case 8 when type != ProgramType.Double && Find(type) is var narrowed and >= 0:
                Add(ProgramOp.Narrow, type, type, narrowed, 0, 0, (ulong)(new[] { 1, 2, 17, 18 }[random.Next(4)]));
                break;
            case 9 or 10 or 11 when type != ProgramType.Boolean && s_types[random.Next(1, s_types.Length)] is var from && Find(from) is var converted and >= 0:
                Add(ProgramOp.Convert, type, from, converted, 0, 0, 0);
                break;
            case 12 when type != ProgramType.Boolean && Find(type) is var negated and >= 0:
                Add(ProgramOp.Negate, type, type, negated, 0, 0, 0);
                break;
            case 13 when type != ProgramType.Double && Find(type) is var inverted and >= 0:
                Add(ProgramOp.Not, type, type, inverted, 0, 0, 0);
                break;
            case 14 when Find(ProgramType.Boolean) is var condition and >= 0 && Find(type) is var first and >= 0:
                Add(ProgramOp.Select, type, type, condition, first, Find(type), 0);
                break;
            case 15 or 16 when Find(type) is var left and >= 0:
                Add(ProgramOp.Equal + (byte)random.Next(3), ProgramType.Boolean, type, left, Find(type), 0, 0);
                break;
            case 17 when isInteger && Find(type) is var shifted and >= 0 && Find(ProgramType.Int32) is var by and >= 0:
                Add(random.Next(2) == 0 ? ProgramOp.ShiftLeft : ProgramOp.ShiftRight, type, type, shifted, by, 0, 0);
                break;
            case 18 or 19 when type != ProgramType.Boolean && Find(type) is var dividend and >= 0:
                Add(isInteger && random.Next(2) == 0 ? ProgramOp.Remainder : ProgramOp.Divide, type, type, dividend, Find(type), 0, 0);
                break;
            case 20 when type != ProgramType.Double && Find(type) is var bits and >= 0:
                Add(ProgramOp.And + (byte)random.Next(3), type, type, bits, Find(type), 0, 0);
                break;
            default:
                if (type != ProgramType.Boolean && Find(type) is var a and >= 0)
                {
                    Add(ProgramOp.Add + (byte)random.Next(3), type, type, a, Find(type), 0, 0);
                }

                break;
        }
    }

    private void Add(ProgramOp op, ProgramType type, ProgramType operand, int a, int b, int c, ulong immediate) =>
        _instructions.Add(new ProgramInstruction(op, type, operand, a, b, c, immediate));

    /// <summary>An instruction whose result has a type, rather a late one; -1 if there is none.</summary>
    private int Find(ProgramType type)
    {
        for (int i = _instructions.Count - 1, left = random.Next(4); i >= 0; i--)
        {
            if (_instructions[i].Type == type && left-- == 0)
            {
                return i;
            }
        }

        return _instructions.FindLastIndex(i => i.Type == type);
    }

    private ulong Constant(ProgramType type) => type switch
    {
        ProgramType.Boolean => (ulong)random.Next(2),
        ProgramType.Double => BitConverter.DoubleToUInt64Bits(NextDouble()),
        ProgramType.Int32 => (ulong)(long)(int)NextValue(),
        ProgramType.UInt32 => (uint)NextValue(),
        _ => NextValue(),
    };

    private UsdtArgument NextStatic()
    {
        int size = 1 << random.Next(4);
        ArgumentKind kind = (ArgumentKind)random.Next((int)ArgumentKind.Floating + 1);
        kind = kind is ArgumentKind.Signed or ArgumentKind.Unsigned ? kind : size >= 4 ? ArgumentKind.Floating : ArgumentKind.Unsigned;
        bool isX64 = machine.Architecture == Architecture.X64;
        UsdtOperand operand = new() { Text = "random", Width = (byte)(1 << random.Next(isX64 ? 0 : 2, 4)) };
        switch (random.Next(isX64 ? 8 : 7))
        {
            case 0:
                operand.Kind = UsdtOperandKind.Constant;
                operand.Value = (ulong)random.Next(-500, 500);
                break;
            case 1:
                operand.Kind = UsdtOperandKind.Vector;
                operand.Register = (byte)random.Next(16);
                break;
            case 2 or 3:
                operand.Kind = UsdtOperandKind.Register;
                operand.Register = NextRegister();
                operand.Shift = (byte)(operand.Width == 1 && random.Next(2) == 0 ? 8 : 0);
                break;
            case 7:
                operand.Kind = UsdtOperandKind.Memory;
                operand.Segment = (byte)X64Register.FsBase;
                operand.Value = 0;
                break;
            default:
                operand.Kind = UsdtOperandKind.Memory;
                operand.Register = isX64 && random.Next(2) == 0 ? (byte)X64Register.Rsp : NextRegister();
                operand.Value = (ulong)random.Next(-100, 500);
                operand.IsNarrow = isX64 && random.Next(8) == 0;
                if (random.Next(3) == 0)
                {
                    operand.Index = NextRegister();
                    operand.Scale = (byte)(1 << random.Next(4));
                    operand.Extension = isX64 ? UsdtIndexExtension.None : (UsdtIndexExtension)random.Next(3);
                }

                break;
        }

        return new UsdtArgument(kind, size, operand);
    }

    private byte NextRegister() => machine.Architecture == Architecture.X64
        ? (byte)Isa.NativeRunner.EncodingOrder[random.Next(16)]
        : (byte)random.Next((int)Arm64Register.Sp + 1);
}
