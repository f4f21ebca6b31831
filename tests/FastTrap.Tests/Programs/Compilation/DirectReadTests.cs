using System.Runtime.InteropServices;
using FastTrap.Engine.Mechanisms;
using FastTrap.Native;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Code that reads memory as it is: on this processor, with nothing behind what may be read, so that a byte too much would end the test.</summary>
[TestFixture, NonParallelizable]
public sealed unsafe class DirectReadTests
{
    private const int StackOffset = 4096;

    [OneTimeSetUp]
    public void RequireProcessor()
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            Assert.Ignore("Its oracle is the x86-64 processor it runs on.");
        }
    }

    [Test]
    public void TextsEndWhereTheyEnd()
    {
        using X64BodyMachine machine = new();
        Random random = new(1);
        for (int longest = 1; longest <= 40; longest++)
        {
            ProgramBuilder builder = new();
            builder.Output(builder.Input(ProgramOp.Argument, ProgramType.UInt64));
            CompiledBody body = Compile(machine, builder.Build(), ProgramAction.RecordWith([(0, longest)]));
            for (int length = 0; length <= 45; length++)
            {
                foreach (int gap in (ReadOnlySpan<int>)[0, random.Next(1, 20), 4096 - length, 4100])
                {
                    // Without its zero where the bound comes first.
                    int room = Math.Min(length + 1, longest);
                    Span<byte> text = machine.Data[^(room + gap)..];
                    random.NextBytes(machine.Data);
                    for (int i = 0; i < room; i++)
                    {
                        text[i] = (byte)(i == length ? 0 : random.Next(1, 256));
                    }

                    ReadOnlySpan<ulong> record = Run(machine, body, machine.DataAddress + (ulong)(machine.Data.Length - room - gap));
                    const int Header = LaneLayout.RecordHeaderLength / sizeof(ulong);
                    ulong count = record[Header + 1];
                    Assert.That(count, Is.InRange((ulong)room, (ulong)longest), $"{length} of {longest}, {gap} behind it");
                    Assert.That(MemoryMarshal.AsBytes(record[(Header + 2)..])[..room].SequenceEqual(text[..room]), $"{length} of {longest}, {gap} behind it");
                }
            }
        }
    }

    [TestCase(1)]
    [TestCase(2)]
    [TestCase(4)]
    [TestCase(8)]
    public void WordsAreReadAtTheEndAndNowhereElse(int length)
    {
        using X64BodyMachine machine = new();
        new Random(length).NextBytes(machine.Data);
        ProgramBuilder builder = new();
        builder.Output(builder.Load(ProgramType.UInt64, builder.Input(ProgramOp.Argument, ProgramType.UInt64), length, false));
        CompiledBody body = Compile(machine, builder.Build(), ProgramAction.Record);
        byte[] expected = new byte[sizeof(ulong)];
        machine.Data[^length..].CopyTo(expected);
        (ulong Address, ulong Validity, ulong Value)[] cases =
        [
            (machine.DataAddress + (ulong)(machine.Data.Length - length), 1, BitConverter.ToUInt64(expected)),
            (0, 0, 0), (1, 0, 0), (0xffff, 0, 0), (1UL << 48, 0, 0), (0xffff_8000_0000_0000, 0, 0), (ulong.MaxValue, 0, 0), (ulong.MaxValue - 7, 0, 0),
        ];
        foreach ((ulong address, ulong validity, ulong value) in cases)
        {
            ReadOnlySpan<ulong> record = Run(machine, body, address);
            const int Header = LaneLayout.RecordHeaderLength / sizeof(ulong);
            Assert.That((record[Header] & 1, record[Header + 1]), Is.EqualTo((validity, value)), $"{address:x}");
        }
    }

    [TestCase(0)]
    [TestCase(0x4000_0001)]
    [TestCase(int.MinValue + 1)]
    public void NothingIsDoneWhereNobodyHoldsTheWord(int word)
    {
        using X64BodyMachine machine = new();
        ProgramBuilder builder = new();
        builder.Output(builder.Load(ProgramType.UInt64, builder.Input(ProgramOp.Argument, ProgramType.UInt64), 8, false));
        CompiledBody body = Compile(machine, builder.Build(), ProgramAction.Record);
        *(int*)(machine.Target.RegionAddress + LaneLayout.TracerWordOffset) = word;
        Run(machine, body, 0x7000_0000_0000);
        Assert.That(machine.Lanes.IndexOfAnyExcept((byte)0), Is.Negative);
    }

    private static CompiledBody Compile(X64BodyMachine machine, ProbeProgram program, ProgramAction action)
    {
        ulong word = machine.Target.RegionAddress + LaneLayout.TracerWordOffset;
        *(int*)word = 1;
        ProgramCompiler compiler = new(program, action, machine.Target with { AllowsSystemCalls = false, TracerWord = word });
        Assert.That(compiler.TryCompile(ArgumentSources.ForEntry(Architecture.X64), out CompiledBody? body, out ProgramNotCompilable reason), $"{reason}");
        byte[] code = new byte[body!.Length];
        body.Write(code, new BodySite(1, 2, 2));
        Assert.That(BodyShape.Analyse(code), Is.Not.Null);
        machine.Place(body, new BodySite(1, 2, 2));
        return body;
    }

    /// <summary>Runs it with an argument; the record, if it has made one. All registers are as they were.</summary>
    private static ReadOnlySpan<ulong> Run(X64BodyMachine machine, CompiledBody body, ulong argument)
    {
        machine.Lanes.Clear();
        machine.Vectors.Clear();
        machine.Vectors[^4] = 0x80;
        machine.Vectors[^3] = 0x1f;
        RegisterSet registers = new(Architecture.X64) { StackPointer = machine.StackAddress + StackOffset };
        registers[X64Register.Rdi] = argument;
        registers[X64Register.Rsi] = 0x1234;
        registers[X64Register.Rcx] = 0x5678;
        RegisterSet before = registers;
        machine.Run(ref registers);
        foreach (X64Register register in (ReadOnlySpan<X64Register>)[X64Register.Rdi, X64Register.Rsi, X64Register.Rcx, X64Register.Rdx, X64Register.Rax, X64Register.Rsp])
        {
            Assert.That(registers[register], Is.EqualTo(before[register]), $"{register}");
        }

        int lane = machine.Target.Layout.FirstLaneOf(machine.ThreadPointer) * (int)machine.Target.Layout.LaneStride;
        return MemoryMarshal.Cast<byte, ulong>(machine.Lanes.Slice(lane + machine.Target.Layout.RingStart, Math.Max(body.RecordLength, sizeof(ulong))));
    }
}
