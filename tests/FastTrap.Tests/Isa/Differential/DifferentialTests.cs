using System.Diagnostics;
using System.Globalization;
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
    public async Task EveryInstructionIsTheSameWhenProbed(bool isFar)
    {
        DifferentialReport report = new();
        DifferentialRun run = new(new Random(20240611), isFar, report);
        DifferentialPlan plan = isFar ? new([WantedOperand.RipRelative], StatesOfCode: 2, StatesOfForm: 2) : new(s_near[..3], StatesOfCode: 6, StatesOfForm: 2);
        await run.RunAsync(InstructionTemplates.All.Values, plan, () => !report.IsFull);
        report.Print(TestContext.Out, lists: false);
        Check(report);
        if (!isFar)
        {
            // Each code was run, or refused, or is one of those that say why not.
            IEnumerable<Code> missing = InstructionTemplates.All.Keys.Except(report.Codes).Except(report.Refused.Keys).Except(report.NotRun);
            Assert.That(missing, Is.Empty);
        }
    }

    /// <summary>
    /// 1,000 states of each code that this processor has, and 100 more with operands out of reach, before- and after-probed. FASTTRAP_DIFFERENTIAL_SEED, _CODES (a
    /// part of names), _SLICE (3/8: the third of eight parts) choose; it ends after _MINUTES (120), and has failed then.
    /// </summary>
    [Test, Explicit("It takes long: dotnet test ... --filter Name=TheLongRun")]
    public async Task TheLongRun()
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
        bool done = await new DifferentialRun(new Random(seed), false, report).RunAsync(templates, new(s_near, StatesOfCode: 40, StatesOfForm: 2), MayGoOn);
        templates = [.. templates.ExceptBy(report.Undefined, t => t.Code)];
        done = done && await new DifferentialRun(new Random(seed + 1), false, report).RunAsync(templates, new(s_near, StatesOfTheLongRun, StatesOfForm: 10), MayGoOn);
        done = done && await new DifferentialRun(new Random(seed + 2), true, report).RunAsync(templates, new([WantedOperand.RipRelative], StatesOfCode: 100, StatesOfForm: 10), MayGoOn);

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
