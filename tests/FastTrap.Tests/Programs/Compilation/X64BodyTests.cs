using System.Runtime.InteropServices;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Programs as x86-64 code do what the interpreter does, and change nothing else.</summary>
[TestFixture, NonParallelizable]
public sealed class X64BodyTests
{
    [OneTimeSetUp]
    public void RequireProcessor()
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            Assert.Ignore("Its oracle is the x86-64 processor it runs on.");
        }
    }

    [Test]
    public void RandomProgramsAgreeWithTheInterpreter() => Compare(1, 1200);

    [Test]
    public void KeysAreCounted()
    {
        using X64BodyMachine machine = new();
        new TableBodies(machine).CompareKeys(new Random(1), 400);
    }

    [Test]
    public void ReturnsFindTheirEntries()
    {
        using X64BodyMachine machine = new();
        new TableBodies(machine).CompareCalls(new Random(2), 400);
    }

    [Test]
    public void TablesAreRightWhenCodeIsInterruptedByCode()
    {
        using X64BodyMachine machine = new();
        int interruptions = new TableBodies(machine).Interrupt();
        TestContext.Out.WriteLine($"{interruptions} interruptions");
        Assert.That(interruptions, Is.GreaterThan(150));
    }

    [TestCase(true)]
    [TestCase(false)]
    public void NothingIsLostWhenCodeIsInterruptedByCode(bool hasThreadPointerWord)
    {
        using X64BodyMachine machine = new(hasThreadPointerWord);
        int interruptions = InterruptedBodies.Check(machine);
        TestContext.Out.WriteLine($"{interruptions} interruptions");
        Assert.That(interruptions, Is.GreaterThan(1000));
    }

    [Test]
    public void TimesAreTheProcessorsTicksInNanoseconds()
    {
        using X64BodyMachine machine = new();
        ProgramBuilder builder = new();
        builder.Output(builder.Input(ProgramOp.TimestampNs, ProgramType.Int64));
        TickScale scale = new(1000, 3UL << 30, -5_000_000_000);
        ProgramCompiler compiler = new(builder.Build(), ProgramAction.Record, machine.Target with { Ticks = scale });
        Assert.That(compiler.TryCompile(ArgumentSources.ForEntry(Architecture.X64), out CompiledBody? body, out _));
        machine.Place(body!, new BodySite(1, 2, 2));
        machine.Vectors.Clear();
        machine.Vectors[^4] = 0x80;
        machine.Vectors[^3] = 0x1f;
        RegisterSet registers = new(Architecture.X64) { StackPointer = machine.StackAddress + 4096 };
        machine.Run(ref registers);
        int lane = machine.Target.Layout.FirstLaneOf(machine.ThreadPointer) * (int)machine.Target.Layout.LaneStride;
        ReadOnlySpan<ulong> record = MemoryMarshal.Cast<byte, ulong>(machine.Lanes[(lane + machine.Target.Layout.RingStart)..]);

        // The record's own time is read a little later.
        decimal expected = -5_000_000_000 + ((record[1] - 1000) * 0.75m);
        Assert.That(expected - (long)record[3], Is.InRange(0, 1_000_000_000));
    }

    /// <summary>A million cases and more; the seed is printed, and can be given in FASTTRAP_SEED.</summary>
    [Test, Explicit("About a minute.")]
    public void AMillionCases()
    {
        int seed = int.TryParse(Environment.GetEnvironmentVariable("FASTTRAP_SEED"), out int given) ? given : Environment.TickCount;
        TestContext.Out.WriteLine($"seed {seed}");
        Compare(seed, 42_000);
    }

    private static void Compare(int seed, int programs)
    {
        using X64BodyMachine machine = new();
        BodyComparison.Run(machine, seed, programs);
    }
}
