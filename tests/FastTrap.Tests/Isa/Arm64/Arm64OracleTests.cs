using FastTrap.Isa;

namespace FastTrap.Tests.Isa.Arm64;

/// <summary>Random words and states: emulators and slots against Unicorn.</summary>
[TestFixture, Parallelizable]
internal sealed class Arm64OracleTests
{
    private const int QuickCases = 1500;
    private const int LongCases = 25_000;

    [OneTimeSetUp]
    public void RequireOracle()
    {
        if (UnicornMachine.WhyMissing is { } reason)
        {
            Assert.Ignore(reason);
        }
    }

    [Test]
    public void TheOracleIsThere()
    {
        // add x0, x1, #2, and a word that is none.
        using UnicornMachine machine = new();
        Span<byte> code = machine.Map(0x10000, 4096, true);
        new byte[] { 0x20, 0x08, 0x00, 0x91, 0x00, 0x00, 0x00, 0x00 }.CopyTo(code);
        Arm64State state = default;
        unsafe
        {
            state.Words[1] = 40;
            Assert.That(machine.Step(ref state, 0x10000), Is.Zero);
            Assert.That(state.Words[0], Is.EqualTo(42));
            Assert.That(state.Pc, Is.EqualTo(0x10004));
        }

        Assert.That(machine.Step(ref state, 0x10004), Is.Not.Zero);
    }

    [Test]
    public void EmulatedInstructionsDoWhatTheProcessorDoes() => CompareEmulated(1, QuickCases);

    [Test]
    public void InstructionsInSlotsDoWhatTheyDoAtTheirPlace() => CompareSlotted(2, QuickCases);

    /// <summary>A million cases and more; the seed is printed, and can be given in FASTTRAP_SEED.</summary>
    [Test, Explicit("About a minute and a half.")]
    public void AMillionCases()
    {
        int seed = int.TryParse(Environment.GetEnvironmentVariable("FASTTRAP_SEED"), out int given) ? given : Environment.TickCount;
        TestContext.Out.WriteLine($"seed {seed}");
        CompareEmulated(seed, LongCases);
        CompareSlotted(seed, LongCases);
    }

    private static void CompareEmulated(int seed, int casesOfEach)
    {
        using Arm64Bench bench = new(seed);
        Random random = new(seed);
        List<string> wrong = [];
        int total = 0;
        foreach (Arm64Words words in Arm64Words.Emulated)
        {
            int emulated = 0;
            for (int i = 0; i < casesOfEach; i++)
            {
                if (bench.CompareEmulated(words.Next(random), ref emulated) is { } difference)
                {
                    wrong.Add($"{words.Name}: {difference}");
                }
            }

            Assert.That(emulated, Is.GreaterThan(casesOfEach / 20), words.Name);
            total += emulated;
        }

        TestContext.Out.WriteLine($"{total} emulated, {wrong.Count} differ");
        Assert.That(wrong.Take(20), Is.Empty, $"seed {seed}, {wrong.Count} of {total}");
    }

    private static void CompareSlotted(int seed, int casesOfEach)
    {
        using Arm64Bench bench = new(seed);
        Random random = new(seed);
        List<string> wrong = [];
        int total = 0;
        foreach (Arm64Words words in (Arm64Words[])[.. Arm64Words.Slotted, .. Arm64Words.Emulated])
        {
            int slotted = 0;
            for (int i = 0; i < casesOfEach; i++)
            {
                if (bench.CompareSlotted(words.Next(random), ref slotted) is { } difference)
                {
                    wrong.Add($"{words.Name}: {difference}");
                }
            }

            Assert.That(slotted, Is.GreaterThan(casesOfEach / 20).Or.Zero, words.Name);
            Assert.That(slotted == 0 && Array.IndexOf(Arm64Words.Slotted, words) >= 0, Is.False, words.Name);
            total += slotted;
        }

        TestContext.Out.WriteLine($"{total} in slots, {wrong.Count} differ");
        Assert.That(wrong.Take(20), Is.Empty, $"seed {seed}, {wrong.Count} of {total}");
    }
}
