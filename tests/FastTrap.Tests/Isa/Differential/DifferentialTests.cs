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
    [TestCase(false)]
    [TestCase(true)]
    public async Task EveryInstructionIsTheSameWhenProbed(bool isFar)
    {
        DifferentialReport report = new();
        DifferentialRun run = new(new Random(20240611), isFar, report);
        await run.RunAsync(
            InstructionTemplates.All.Values, isFar ? [WantedOperand.RipRelative] : [WantedOperand.Register, WantedOperand.Memory, WantedOperand.RipRelative],
            formsOfEach: 1, states: 2, () => report.Shown.Count < 40);
        Check(report);
        if (!isFar)
        {
            // Each code was run, or refused, or is one of those that say why not.
            IEnumerable<Code> missing = InstructionTemplates.All.Keys.Except(report.Codes).Except(report.Refused.Keys).Except(report.NotRun);
            Assert.That(missing, Is.Empty);
        }
    }

    /// <summary>
    /// 1,000 states of each code and more, before- and after-probed: about ten minutes. FASTTRAP_DIFFERENTIAL_SEED and FASTTRAP_DIFFERENTIAL_CODES (a part of
    /// names) narrow it.
    /// </summary>
    [Test, Explicit("It takes long: dotnet test ... --filter Name=TheLongRun")]
    public async Task TheLongRun()
    {
        int seed = int.Parse(Environment.GetEnvironmentVariable("FASTTRAP_DIFFERENTIAL_SEED") ?? "1");
        string part = Environment.GetEnvironmentVariable("FASTTRAP_DIFFERENTIAL_CODES") ?? "";
        DifferentialReport report = new();
        InstructionTemplate[] templates = [.. InstructionTemplates.All.Values.Where(t => t.Code.ToString().Contains(part, StringComparison.OrdinalIgnoreCase))];
        foreach (bool isFar in new[] { false, true })
        {
            DifferentialRun run = new(new Random(seed), isFar, report);
            await run.RunAsync(
                templates, isFar ? [WantedOperand.RipRelative] : [WantedOperand.Register, WantedOperand.Memory, WantedOperand.RipRelative, WantedOperand.Any],
                formsOfEach: isFar ? 10 : 25, states: 10, () => report.Shown.Count < 40);
        }

        Check(report);
    }

    private static void Check(DifferentialReport report)
    {
        TestContext.Out.WriteLine(
            $"{report.Codes.Count} codes, {report.Executed.Count} of them executed by this processor; {report.States} probed states, {report.Hits} hits, {report.Differences} differences");
        foreach (IGrouping<ProbeRefusal, Code> group in report.Refused.Where(r => !report.Codes.Contains(r.Key)).GroupBy(r => r.Value, r => r.Key))
        {
            TestContext.Out.WriteLine($"refused, {group.Key}: {string.Join(' ', group)}");
        }

        TestContext.Out.WriteLine($"not run: {string.Join(' ', report.NotRun)}");
        Assert.That(report.Shown, Is.Empty, string.Join('\n', report.Shown));
        Assert.That(report.Differences, Is.Zero);
        Assert.That(report.Codes, Is.Not.Empty);
    }
}
