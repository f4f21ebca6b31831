using System.Runtime.InteropServices;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;
using FastTrap.Usdt;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>What is compiled once, and what is refused.</summary>
[TestFixture(Architecture.X64), TestFixture(Architecture.Arm64), Parallelizable]
internal sealed class ProgramCompilerTests(Architecture architecture)
{
    private ProgramTarget Target => new()
    {
        Architecture = architecture,
        Layout = new LaneLayout(8, 128),
        RegionAddress = 0x7000_0000_0000,
        AllowsSystemCalls = true,
    };

    [Test]
    public void WhatHasNoCodeIsRefusedWithItsReason()
    {
        (ProgramNotCompilable Reason, Action<ProgramBuilder> Build, ProgramTarget Target)[] cases =
        [
            (ProgramNotCompilable.DoubleRemainder, b => b.Output(b.Binary(ProgramOp.Remainder, b.Constant(ProgramType.Double, 1), b.Constant(ProgramType.Double, 2))), Target),
            (ProgramNotCompilable.SystemCallsFiltered, b => b.Output(b.Load(ProgramType.Int32, b.Input(ProgramOp.Argument, ProgramType.UInt64), 4, true)), Target with { AllowsSystemCalls = false }),
            (ProgramNotCompilable.SystemCallsFiltered, b => b.Output(b.Input(ProgramOp.ThreadId, ProgramType.Int32)), Target with { AllowsSystemCalls = false }),
            (ProgramNotCompilable.NoTickScale, b => b.Output(b.Input(ProgramOp.TimestampNs, ProgramType.Int64)), Target),
            (ProgramNotCompilable.RecordTooLong, Long, Target),
            (ProgramNotCompilable.TooLarge, Large, Target with { Layout = new LaneLayout(8, 4096) }),
        ];
        foreach ((ProgramNotCompilable expected, Action<ProgramBuilder> build, ProgramTarget target) in cases)
        {
            ProgramBuilder builder = new();
            build(builder);
            ProgramCompiler compiler = new(builder.Build(), ProgramAction.Record, target);
            Assert.That(compiler.TryCompile(ArgumentSources.ForEntry(architecture), out CompiledBody? body, out ProgramNotCompilable reason), Is.False, $"{expected}");
            Assert.That((body, reason), Is.EqualTo(((CompiledBody?)null, expected)));
        }

        // What is not used is no reason, as a count uses no output.
        ProgramBuilder unused = new();
        cases[0].Build(unused);
        Assert.That(new ProgramCompiler(unused.Build(), ProgramAction.Count, Target).TryCompile(ArgumentSources.ForEntry(architecture), out _, out _));
    }

    [Test]
    public void SitesWhoseArgumentsAreInTheSamePlacesShareCode()
    {
        ProgramBuilder builder = new();
        builder.Output(builder.Input(ProgramOp.Argument, ProgramType.UInt64));
        ProgramCompiler compiler = new(builder.Build(), ProgramAction.Record, Target);
        Assert.That(Compile(Static(1)), Is.SameAs(Compile(Static(1))).And.Not.SameAs(Compile(Static(2))).And.Not.SameAs(Compile(ArgumentSources.ForEntry(architecture))));

        CompiledBody Compile(ArgumentSources sources)
        {
            Assert.That(compiler.TryCompile(sources, out CompiledBody? body, out _));
            return body!;
        }
    }

    private static ArgumentSources Static(byte register) =>
        ArgumentSources.ForStatic([new UsdtArgument(ArgumentKind.Signed, 4, new UsdtOperand { Kind = UsdtOperandKind.Register, Register = register, Width = 4 })]);

    private static void Long(ProgramBuilder builder)
    {
        for (ulong i = 0; i < 6; i++)
        {
            builder.Output(builder.Constant(ProgramType.UInt64, i));
        }
    }

    private static void Large(ProgramBuilder builder)
    {
        int argument = builder.Input(ProgramOp.Argument, ProgramType.UInt64);
        List<int> values = [argument];
        for (int i = 0; i < 200; i++)
        {
            values.Add(builder.Binary(ProgramOp.Add, values[^1], argument));
        }

        builder.Output(values.Aggregate((a, b) => builder.Binary(ProgramOp.Xor, b, a)));
    }
}
