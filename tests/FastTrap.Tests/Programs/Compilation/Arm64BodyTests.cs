using System.Diagnostics;
using System.Runtime.InteropServices;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Tests.Isa.Arm64;

namespace FastTrap.Tests.Programs.Compilation;

/// <summary>Programs as arm64 code do what the interpreter does, and change nothing else.</summary>
[TestFixture, Parallelizable]
public sealed class Arm64BodyTests
{
    [OneTimeSetUp]
    public void RequireOracle()
    {
        if (UnicornMachine.WhyMissing is { } reason)
        {
            Assert.Ignore(reason);
        }
    }

    [Test]
    public void RandomProgramsAgreeWithTheInterpreter() => Compare(1, 1000);

    [Test]
    public void KeysAreCounted()
    {
        using Arm64BodyMachine machine = new();
        new TableBodies(machine).CompareKeys(new Random(1), 60);
    }

    [Test]
    public void ReturnsFindTheirEntries()
    {
        using Arm64BodyMachine machine = new();
        new TableBodies(machine).CompareCalls(new Random(2), 60);
    }

    [Test]
    public void TablesAreRightWhenCodeIsInterruptedByCode()
    {
        using Arm64BodyMachine machine = new();
        int interruptions = new TableBodies(machine).Interrupt();
        TestContext.Out.WriteLine($"{interruptions} interruptions");
        Assert.That(interruptions, Is.GreaterThan(150));
    }

    [Test]
    public void NothingIsLostWhenCodeIsInterruptedByCode()
    {
        using Arm64BodyMachine machine = new();
        int interruptions = InterruptedBodies.Check(machine);
        TestContext.Out.WriteLine($"{interruptions} interruptions");
        Assert.That(interruptions, Is.GreaterThan(1000));
    }

    [Test]
    public void VectorsOfAnyLengthAreSavedWhole()
    {
        using Arm64BodyMachine machine = new();
        ProgramBuilder builder = new();
        builder.Output(builder.Binary(ProgramOp.Add, builder.Convert(builder.Input(ProgramOp.Argument, ProgramType.UInt64), ProgramType.Double), builder.Constant(ProgramType.Double, 1)));
        ProgramTarget target = machine.Target with { HasScalableVectors = true };
        Assert.That(new ProgramCompiler(builder.Build(), ProgramAction.Record, target).TryCompile(ArgumentSources.ForEntry(Architecture.Arm64), out CompiledBody? body, out _));
        byte[] code = new byte[body!.Length];
        body.Write(code, new BodySite(0x12345678, 1, 1));
        string file = Path.Combine(TestContext.CurrentContext.WorkDirectory, "arm64-body.bin");
        File.WriteAllBytes(file, code);
        using Process objdump = Process.Start(
            new ProcessStartInfo("aarch64-linux-gnu-objdump", ["-D", "-b", "binary", "-m", "aarch64", "--no-show-raw-insn", file]) { RedirectStandardOutput = true })!;
        string text = objdump.StandardOutput.ReadToEnd();
        objdump.WaitForExit();
        string[] saved = ["str\tz16, [x12]", "str\tz17, [x12]", "ldr\tz16, [x12]", "ldr\tz17, [x12]"];
        Assert.That(saved.Where(s => !text.Contains(s, StringComparison.Ordinal)), Is.Empty, text);
        Assert.That(text, Does.Contain("mov\tx9, #0x5678").And.Contain("movk\tx9, #0x1234, lsl #16"));
        Assert.That(text, Does.Not.Contain("udf").And.Not.Contain("undefined").And.Not.Contain(".inst"));
    }

    /// <summary>A quarter of a million cases; the seed is printed, and can be given in FASTTRAP_SEED.</summary>
    [Test, Explicit("About two minutes.")]
    public void ManyCases()
    {
        int seed = int.TryParse(Environment.GetEnvironmentVariable("FASTTRAP_SEED"), out int given) ? given : Environment.TickCount;
        TestContext.Out.WriteLine($"seed {seed}");
        Compare(seed, 10_000);
    }

    private static void Compare(int seed, int programs)
    {
        using Arm64BodyMachine machine = new();
        BodyComparison.Run(machine, seed, programs);
    }
}
