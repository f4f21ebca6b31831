using System.Diagnostics;
using System.Globalization;
using FastTrap.Native;
using Iced.Intel;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>
/// Every instruction against the processor: native and probed, in a real process, from random states. Registers, flags, vector state, memory (the red
/// zone too) and faults must be equal.
/// </summary>
[TestFixture]
[NonParallelizable]
public sealed class DifferentialTests
{
    private const int StatesOfTheLongRun = 1000;

    private static readonly WantedOperand[] s_near = [WantedOperand.Register, WantedOperand.Memory, WantedOperand.RipRelative, WantedOperand.Any];

    [TestCase(false)]
    [TestCase(true)]
    [TestCase(false, ProbeMechanism.Jump)]
    [TestCase(false, ProbeMechanism.InProcessTrap)]
    public async Task EveryInstructionIsTheSameWhenProbed(bool isFar, ProbeMechanism mechanism = ProbeMechanism.Breakpoint)
    {
        DifferentialReport report = new();
        DifferentialRun run = new(new Random(20240611), isFar, report, mechanism);
        DifferentialPlan plan = isFar ? new([WantedOperand.RipRelative], StatesOfCode: 2, StatesOfForm: 2) : new(s_near[..3], StatesOfCode: 6, StatesOfForm: 2);
        await run.RunAsync(InstructionTemplates.All.Values, plan, () => !report.IsFull);
        report.Print(TestContext.Out, lists: false);
        Check(report);
        if (mechanism != ProbeMechanism.Breakpoint)
        {
            Assert.That(report.CodeStates, Is.GreaterThan(report.States / 2));
        }

        if (!isFar)
        {
            // Each code was run, or refused, or is one of those that say why not.
            IEnumerable<Code> missing = InstructionTemplates.All.Keys.Except(report.Codes).Except(report.Refused.Keys).Except(report.NotRun);
            Assert.That(missing, Is.Empty);
        }
    }

    /// <summary>Each branch, loop, call, return, push and pop, with the prefixes that programs put before them, and each way to write an operand in memory.</summary>
    [TestCaseSource(nameof(ChosenForms), [ProbeMechanism.Breakpoint])]
    [TestCaseSource(nameof(ChosenForms), [ProbeMechanism.Jump])]
    [TestCaseSource(nameof(ChosenForms), [ProbeMechanism.InProcessTrap])]
    public async Task EveryFormIsTheSameWhenProbed(ProbeMechanism mechanism, byte[][] forms, int states)
    {
        DifferentialReport report = new();
        await new DifferentialRun(new Random(7), false, report, mechanism).RunAsync(forms, states);
        report.Print(TestContext.Out, lists: false);
        Check(report);
        if (mechanism == ProbeMechanism.Breakpoint)
        {
            Assert.That(report.States, Is.EqualTo(forms.Length * states * 2));
        }
        else
        {
            // Some go back to a trap, for a fault in the middle of a window.
            Assert.That(report.CodeStates, Is.GreaterThan(forms.Length * states / 3));
            Assert.That(report.WithoutRoom, Is.LessThan(forms.Length / 20));
        }
    }

    private static IEnumerable<TestCaseData> ChosenForms(ProbeMechanism mechanism)
    {
        byte[][] prefixes = [[], [0x67], [0x2e], [0x3e], [0x26], [0x64], [0x65], [0xf2], [0xf3], [0x48], [0x66, 0x48], [0x2e, 0x67], [0x3e, 0x41]];
        if (Processor.IgnoresOperandSizeOfBranches)
        {
            prefixes = [.. prefixes, [0x66], [0x66, 0x2e], [0x66, 0x66]];
        }

        byte[] near = [0, 0, 0, 0];
        byte[][] relative =
        [
            .. Enumerable.Range(0x70, 16).Select(o => new[] { (byte)o, (byte)0 }), .. Enumerable.Range(0x80, 16).Select(o => (byte[])[0x0f, (byte)o, .. near]),
            [0xe0, 0], [0xe1, 0], [0xe2, 0], [0xe3, 0], [0xeb, 0], [0xe9, .. near], [0xe8, .. near], [0xc3], [0xc2, 0x18, 0],
        ];
        yield return Forms(mechanism, "relative branches and returns", 12, prefixes.SelectMany(p => relative.Select(r => (byte[])[.. p, .. r])));

        byte[][] before = [[], [0x64], [0x65], [0x67], [0x3e], [0x64, 0x67]];
        byte[][] extensions = [[], [0x41], [0x42], [0x43]];
        yield return Forms(mechanism, "indirect branches", 1, before.SelectMany(p => extensions.SelectMany(e => Operands(2).Concat(Operands(4)).Select(o => (byte[])[.. p, .. e, 0xff, .. o]))));

        // 50 to 5f, immediates, leave, pushf, popf, segment registers; enter of several depths; each operand of push and pop.
        byte[][] widths = [[], [0x66], [0x41], [0x48], [0x66, 0x41], [0x67], [0x2e]];
        byte[][] stack =
        [
            .. Enumerable.Range(0x50, 16).Select(o => new[] { (byte)o }), [0x68, 1, 2, 3, 0x84], [0x6a, 0x81], [0xc9], [0x9c], [0x9d], [0x0f, 0xa0], [0x0f, 0xa1], [0x0f, 0xa8], [0x0f, 0xa9],
            .. new byte[] { 0, 1, 2, 31, 32 }.Select(depth => new byte[] { 0xc8, 0x20, 0, depth }),
        ];
        yield return Forms(mechanism, "push, pop, enter, leave", 10, widths.SelectMany(w => stack.Select(s => (byte[])[.. w, .. s])));
        yield return Forms(mechanism,
            "push and pop of memory", 1, widths.SelectMany(w => Operands(6).Select(o => (byte[])[.. w, 0xff, .. o]).Concat(Operands(0).Select(o => (byte[])[.. w, 0x8f, .. o]))));

        // Every length that assemblers write, and cs, ds, lock-free; then what uprobes of the kernel refuse.
        string[] others =
        [
            "90", "6690", "F390", "4890", "4190", "0F1F00", "0F1F4000", "0F1F440000", "660F1F440000", "0F1F8000000000", "0F1F840000000000", "660F1F840000000000",
            "662E0F1F840000000000", "66662E0F1F840000000000", "666666662E0F1F840000000000", "2E90", "3E90", "F30F1EFA", "F30F1EFB", "0F1EFA", "0F0D08", "0F18E0",
            "F0FF00", "F0480FC70F", "F00FB10A", "F048FF0500000000", "2E0F1F840000000000", "3EFFE0", "3EFFD0", "C5F9EFC1", "C5FA6F07", "C5F96EC0", "C5F9D4C1", "C5F9FAC1",
            "C5F9F4C1", "C5F960C1", "C4E17960C1", "62F17D4860C1", "62F1FD48D4C1", "CD80", "CD03", "F4", "EE", "6C", "9C", "9D", "669C", "0F05", "0F01F9", "0FA2", "0F0B",
        ];
        yield return Forms(mechanism, "nops, landing pads, and what uprobes refuse", 100, others.Select(Convert.FromHexString));
    }

    /// <summary>Every ModRM byte and SIB byte, with a displacement behind them.</summary>
    private static IEnumerable<byte[]> Operands(int extension)
    {
        for (int modRm = 0; modRm < 256; modRm++)
        {
            if (((modRm >> 3) & 7) != extension)
            {
                continue;
            }

            bool hasSib = modRm < 0xc0 && (modRm & 7) == 4;
            for (int sib = 0; sib < (hasSib ? 256 : 1); sib++)
            {
                int length = (modRm >> 6) switch
                {
                    0 => (modRm & 7) == 5 || (hasSib && (sib & 7) == 5) ? 4 : 0,
                    1 => 1,
                    2 => 4,
                    _ => 0,
                };
                byte[] displacement = [0x10, 0, 0, 0];
                yield return [(byte)modRm, .. hasSib ? new[] { (byte)sib } : [], .. displacement[..length]];
            }
        }
    }

    private static TestCaseData Forms(ProbeMechanism mechanism, string name, int states, IEnumerable<byte[]> forms) =>
        new TestCaseData(mechanism, forms.ToArray(), states).SetArgDisplayNames($"{mechanism}", name);

    /// <summary>
    /// 1,000 states of each code that this processor has, and 100 more with operands out of reach, before- and after-probed. FASTTRAP_DIFFERENTIAL_SEED, _CODES (a
    /// part of names), _SLICE (3/8: the third of eight parts) choose; it ends after _MINUTES (120), and has failed then.
    /// </summary>
    [Test, Explicit("It takes long: dotnet test ... --filter Name=TheLongRun")]
    public Task TheLongRun() => RunLong(ProbeMechanism.Breakpoint);

    /// <summary>The same by code in the target.</summary>
    [TestCase(ProbeMechanism.Jump)]
    [TestCase(ProbeMechanism.InProcessTrap)]
    [Explicit("It takes long: dotnet test ... --filter Name~TheLongRunBy")]
    public Task TheLongRunBy(ProbeMechanism mechanism) => RunLong(mechanism);

    private static async Task RunLong(ProbeMechanism mechanism)
    {
        int seed = int.Parse(Setting("SEED", "1"));
        string part = Setting("CODES", "");
        int[] slice = [.. Setting("SLICE", "1/1").Split('/').Select(int.Parse)];
        TimeSpan limit = TimeSpan.FromMinutes(double.Parse(Setting("MINUTES", "120"), CultureInfo.InvariantCulture));
        Stopwatch clock = Stopwatch.StartNew();
        InstructionTemplate[] templates =
        [
            .. InstructionTemplates.All.Values.OrderBy(t => t.Code).Where(t => t.Code.ToString().Contains(part, StringComparison.OrdinalIgnoreCase))
                .Where((_, i) => i % slice[1] == slice[0] - 1),
        ];
        DifferentialReport report = new();
        bool MayGoOn() => !report.IsFull && clock.Elapsed < limit;

        // A few states tell which codes this processor has.
        bool done = await new DifferentialRun(new Random(seed), false, report, mechanism).RunAsync(templates, new(s_near, StatesOfCode: 40, StatesOfForm: 2), MayGoOn);
        templates = [.. templates.ExceptBy(report.Undefined, t => t.Code)];
        done = done && await new DifferentialRun(new Random(seed + 1), false, report, mechanism).RunAsync(templates, new(s_near, StatesOfTheLongRun, StatesOfForm: 10), MayGoOn);
        done = done && (mechanism != ProbeMechanism.Breakpoint || await new DifferentialRun(new Random(seed + 2), true, report).RunAsync(templates, new([WantedOperand.RipRelative], StatesOfCode: 100, StatesOfForm: 10), MayGoOn));

        TestContext.Out.WriteLine($"The long run, seed {seed}, part {slice[0]} of {slice[1]}, {clock.Elapsed.TotalMinutes:f1} minutes of {limit.TotalMinutes}:");
        report.Print(TestContext.Out, lists: true);
        Check(report);
        Assert.That(done, Is.True, "It was ended before its end.");
        Assert.That(report.Codes.Except(report.Undefined).Where(c => report.StatesOf(c) < StatesOfTheLongRun), Is.Empty, "Too few states.");
    }

    private static string Setting(string name, string standard) => Environment.GetEnvironmentVariable("FASTTRAP_DIFFERENTIAL_" + name) ?? standard;

    private static void Check(DifferentialReport report)
    {
        Assert.That(report.Shown, Is.Empty, string.Join('\n', report.Shown));
        Assert.That(report.Differences, Is.Zero);
        Assert.That(report.Codes, Is.Not.Empty);
    }
}
