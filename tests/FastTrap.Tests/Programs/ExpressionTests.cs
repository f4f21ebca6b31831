using System.Linq.Expressions;
using FastTrap.Programs;

namespace FastTrap.Tests.Programs;

/// <summary>Lambdas compiled to probe programs give what C# itself computes.</summary>
[TestFixture, Parallelizable]
public sealed class ExpressionTests
{
    private const ulong Memory = 0x10000;

    private static IEnumerable<LambdaExpression> Lambdas()
    {
        int captured = 12;
        ulong mask = 0xff00;
        static LambdaExpression Of<T>(Expression<Func<QueryContext, T>> lambda) => lambda;
        yield return Of(c => c.Arg(0) + c.Arg(1));
        yield return Of(c => c.Arg(0) - (c.Arg(1) * 3));
        yield return Of(c => (int)c.Arg(0) / 7);
        yield return Of(c => (int)c.Arg(0) % 7);
        yield return Of(c => (long)c.Arg(1) / -3);
        yield return Of(c => (uint)c.Arg(0) >> captured);
        yield return Of(c => (int)c.Arg(0) >> 35);
        yield return Of(c => (long)c.Arg(0) >> 5);
        yield return Of(c => c.Arg(0) << (int)(c.Arg(1) & 63));
        yield return Of(c => (c.Arg(0) & mask) | (c.Arg(1) ^ ~c.Arg(2)));
        yield return Of(c => -(int)c.Arg(0));
        yield return Of(c => (byte)c.Arg(0) + (sbyte)c.Arg(0));
        yield return Of(c => (short)c.Arg(1) - (ushort)c.Arg(1));
        yield return Of(c => (double)c.Arg(0) / 3);
        yield return Of(c => (double)(int)c.Arg(0) * 1.5 > (double)c.ThreadId);
        yield return Of(c => c.Arg(0) > 4096);
        yield return Of(c => (int)c.Arg(0) < captured && c.Arg(1) != 0);
        yield return Of(c => (long)c.Arg(0) >= -1 || c.ThreadId <= 42);
        yield return Of(c => !(c.ProcessId == 7) ? c.ReturnValue : c.ProgramCounter);
        yield return Of(c => c.TimestampNs + c.ThreadId);
        yield return Of(c => c.Read<ulong>(Memory + (c.Arg(2) & 63)));
        yield return Of(c => c.Read<int>(Memory + 8) + c.Read<byte>(Memory + 3) + c.Read<sbyte>(Memory + 4) + c.Read<short>(Memory + 5) + c.Read<ushort>(Memory + 7));
        yield return Of(c => c.Read<double>(Memory + 16) > 0 ? 1 : 2);
        yield return Of(c => c.Read<bool>(Memory));
        yield return Of(c => c.Read<DayOfWeek>(Memory + 12) == DayOfWeek.Friday);
        yield return Of(c => c.Arg(0) == 1 || (c.Arg(0) != 0 && c.Read<uint>(Memory + 20) % 5 == 3));
        yield return Of(c => (ushort)(c.Arg(0) * 31) > (char)c.Arg(1));
        yield return Of(c => (uint)c.Arg(0) / ((uint)c.Arg(1) | 1));
    }

    [TestCaseSource(nameof(Lambdas))]
    public void ProgramComputesWhatCSharpDoes(LambdaExpression lambda)
    {
        ProgramBuilder builder = new();
        int value = new ExpressionCompiler(builder, lambda.Parameters[0]).Compile(lambda.Body);
        builder.Output(value);
        ProbeProgram program = builder.Build();
        Delegate oracle = lambda.Compile();
        Random random = new(1);
        ulong[] values = new ulong[program.Instructions.Length];
        bool[] valid = new bool[values.Length];
        for (int i = 0; i < 2000; i++)
        {
            FakeSite site = new(random);
            Assert.That(ProgramInterpreter.Run(program, site.Input, values, valid));
            Assert.That(valid[value], $"{lambda}");
            object? expected = oracle.DynamicInvoke(site);
            Assert.That(Box(values[value], lambda.ReturnType), Is.EqualTo(expected), $"{lambda} with {site}");
        }
    }

    [Test]
    public void WhatHasNoValueIsMarkedAndPassesNoFilter()
    {
        (string Name, LambdaExpression Lambda, bool IsValid)[] cases =
        [
            ("null", Of(c => c.Read<int>(0)), false),
            ("sum with null", Of(c => c.Read<int>(8) + 1), false),
            ("division by zero", Of(c => c.Arg(0) / (c.Arg(0) - c.Arg(0))), false),
            ("least by -1", Of(c => (int.MinValue + (int)(c.Arg(0) & 0)) / ((int)(c.Arg(0) & 0) - 1)), false),
            ("not chosen", Of(c => c.Arg(0) == c.Arg(0) ? 1 : c.Read<int>(0)), true),
            ("guarded", Of(c => c.Arg(0) != c.Arg(0) && c.Read<int>(0) > 5), true),
            ("guard without value", Of(c => c.Read<int>(0) > 5 && c.Arg(0) == c.Arg(0)), false),
            ("too large a double", Of(c => (int)((double)c.Arg(0) * 1e300)), false),
        ];
        foreach ((string name, LambdaExpression lambda, bool isValid) in cases)
        {
            ProgramBuilder builder = new();
            int value = new ExpressionCompiler(builder, lambda.Parameters[0]).Compile(lambda.Body);
            if (builder.TypeOf(value) == ProgramType.Boolean)
            {
                builder.Filter(value);
            }

            ProbeProgram program = builder.Build();
            ulong[] values = new ulong[program.Instructions.Length];
            bool[] valid = new bool[values.Length];
            bool passes = ProgramInterpreter.Run(program, new FakeSite(new Random(2)).Input, values, valid);
            Assert.That(valid[value], Is.EqualTo(isValid), name);
            Assert.That(passes, Is.EqualTo(builder.TypeOf(value) != ProgramType.Boolean), name);
        }

        static LambdaExpression Of<T>(Expression<Func<QueryContext, T>> lambda) => lambda;
    }

    private static IEnumerable<TestCaseData> Refused()
    {
        static TestCaseData Of<T>(Expression<Func<QueryContext, T>> lambda, string named, string reason) => new TestCaseData(lambda, named, reason).SetArgDisplayNames(named);
        yield return Of(c => checked(c.Arg(0) + 1), "c.Arg(0) + 1", "overflow");
        yield return Of(c => Math.Max(c.Arg(0), 2UL), "Max(", "arithmetic");
        yield return Of(c => c.Arg((int)c.Arg(0)), "c.Arg(0)", "constant");
        yield return Of(c => c.Arg(64), "64", "0 to 63");
        yield return Of(c => c.Read<decimal>(c.Arg(0)), "Read(", "Decimal");
        yield return Of(c => c.ToString()!.Length, "ToString()", "cannot be part");
        yield return Of(c => c.ReadString(c.Arg(0), 4) == "abcd", "ReadString", "operator of a type");
        yield return Of(c => c.Stack(4) == null, "Stack", "field of a record");
        yield return Of(c => c.Read<float>(c.Arg(0)) > 1f, "Read(", "Single");
    }

    [TestCaseSource(nameof(Refused))]
    public void WhatCannotBeCompiledIsNamed(LambdaExpression lambda, string named, string reason)
    {
        ArgumentException exception = Assert.Throws<ArgumentException>(() => new ExpressionCompiler(new ProgramBuilder(), lambda.Parameters[0]).Compile(lambda.Body))!;
        Assert.That(exception.Message, Does.Contain(named).And.Contain(reason));
    }

    [Test]
    public void ProgramsThatAreNotValidAreRefused()
    {
        ProgramInstruction one = new(ProgramOp.Constant, ProgramType.Int32, ProgramType.Int32, 0, 0, 0, 1);
        ProgramInstruction[][] wrong =
        [
            [new(ProgramOp.Add, ProgramType.Int32, ProgramType.Int32, 0, 0, 0, 0)],
            [one, new(ProgramOp.Add, ProgramType.Int32, ProgramType.Int32, 0, 1, 0, 0)],
            [one, new(ProgramOp.Add, ProgramType.Int64, ProgramType.Int64, 0, 0, 0, 0)],
            [one, new(ProgramOp.Load, ProgramType.Int32, ProgramType.UInt64, 0, 0, 0, 4)],
            [one, new(ProgramOp.Select, ProgramType.Int32, ProgramType.Int32, 0, 0, 0, 0)],
            [one, new(ProgramOp.Convert, ProgramType.Boolean, ProgramType.Int32, 0, 0, 0, 0)],
            [one, new((ProgramOp)200, ProgramType.Int32, ProgramType.Int32, 0, 0, 0, 0)],
            [new(ProgramOp.Argument, ProgramType.UInt64, ProgramType.UInt64, 0, 0, 0, 64)],
            [.. Enumerable.Repeat(one, ProbeProgram.MaximumLength + 1)],
        ];
        foreach (ProgramInstruction[] instructions in wrong)
        {
            Assert.Throws<ArgumentException>(() => _ = new ProbeProgram(instructions, null, []));
        }

        Assert.Throws<ArgumentException>(() => _ = new ProbeProgram([one], 0, []));
        Assert.Throws<ArgumentException>(() => _ = new ProbeProgram([one], null, [1]));
        Assert.DoesNotThrow(() => _ = new ProbeProgram([one], null, [0]));
    }

    private static object Box(ulong bits, Type type) => Type.GetTypeCode(type) switch
    {
        TypeCode.Boolean => bits != 0,
        TypeCode.Int32 => (int)bits,
        TypeCode.UInt32 => (uint)bits,
        TypeCode.Int64 => (long)bits,
        TypeCode.Double => BitConverter.UInt64BitsToDouble(bits),
        _ => bits,
    };

    /// <summary>A hit with random values, as C# and as the interpreter see it.</summary>
    private sealed class FakeSite : QueryContext
    {
        private readonly ulong[] _arguments = new ulong[6];
        private readonly byte[] _memory = new byte[256];

        public FakeSite(Random random)
        {
            random.NextBytes(_memory);
            _memory[12] = (byte)random.Next(0, 8);
            _memory.AsSpan(13, 3).Clear();
            for (int i = 0; i < _arguments.Length; i++)
            {
                _arguments[i] = (ulong)random.NextInt64(long.MinValue, long.MaxValue) >> random.Next(0, 64);
            }

            ReturnValue = _arguments[5];
            ThreadId = random.Next(1, 100);
            ProcessId = random.Next(5, 9);
            TimestampNs = random.NextInt64();
        }

        public override ulong ReturnValue { get; }

        public override int ThreadId { get; }

        public override int ProcessId { get; }

        public override long TimestampNs { get; }

        public override ulong ProgramCounter => 0x401000;

        public FakeInput Input => new(this);

        public override ulong Arg(int index) => _arguments[index];

        public override T Read<T>(ulong address)
        {
            T value = default;
            Assert.That(TryRead(address, System.Runtime.InteropServices.MemoryMarshal.AsBytes(new Span<T>(ref value))));
            if (value is bool)
            {
                // Any byte but 0 is true; C# wants 1.
                return (T)(object)(_memory[(int)(address - Memory)] != 0);
            }

            return value;
        }

        public override string ReadString(ulong address, int maximumLength) => throw new NotSupportedException();

        public override ulong[] Stack(int depth) => throw new NotSupportedException();

        public bool TryRead(ulong address, Span<byte> buffer) =>
            address >= Memory && address - Memory + (ulong)buffer.Length <= (ulong)_memory.Length && _memory.AsSpan((int)(address - Memory), buffer.Length).TryCopyTo(buffer);

        public override string ToString() => string.Join(' ', _arguments.Select(a => $"0x{a:x}"));
    }

    private readonly struct FakeInput(FakeSite site) : IProgramInput
    {
        public ulong ReturnValue => site.ReturnValue;

        public int ThreadId => site.ThreadId;

        public int ProcessId => site.ProcessId;

        public long TimestampNs => site.TimestampNs;

        public ulong ProgramCounter => site.ProgramCounter;

        public bool TryGetArgument(int index, out ulong value)
        {
            value = site.Arg(index);
            return true;
        }

        public bool TryRead(ulong address, scoped Span<byte> buffer) => site.TryRead(address, buffer);
    }
}
