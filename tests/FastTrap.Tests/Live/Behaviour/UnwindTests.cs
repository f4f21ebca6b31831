using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Whoever walks the stack of a probed program, a profiler in a signal or an unwinder, finds original addresses only.</summary>
[TestFixture]
public sealed class UnwindTests : LiveTest
{
    private static readonly TargetVariant s_variant = new(Flags: "-fexceptions -static-libgcc");

    [TestCase("a.out:work_*:*", "2", "60", "6")]
    [TestCase("a.out:*n*:*", "1", "0", "6")]
    [TestCase("a.out:_U*:*", "1", "8", "6")]
    public async Task EveryFrameIsOfKnownText(string description, params string[] arguments)
    {
        IReadOnlyList<string> alone = RunAlone("unwinds", s_variant, arguments);
        using TargetProcess target = TargetProcess.StartTarget("unwinds", s_variant, arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync(description, CountOnly);
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        TestContext.Out.WriteLine($"{enabling.Probes.Count} probes, {enabling.HitCount} hits; {string.Join(", ", target.Lines)}");
        Assert.That(enabling.HitCount, Is.GreaterThan(1000));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(WithoutSamples(Comparable(target.Lines)), Is.EqualTo(WithoutSamples(alone)));
    }

    private static IEnumerable<string> WithoutSamples(IEnumerable<string> lines) => lines.Where(l => !l.StartsWith("samples ", StringComparison.Ordinal));
}
