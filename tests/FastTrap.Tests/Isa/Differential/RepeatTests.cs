using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Isa.Differential;

/// <summary>A string instruction with a repeat prefix runs in its slot as fast as natively: it is neither stepped nor begun again when a signal finds it half done.</summary>
[TestFixture]
public sealed class RepeatTests : LiveTest
{
    /// <summary>300 calls of four threads, 262,143 steps each, under signals: were each step a trap, it would last for hours.</summary>
    [Test]
    public async Task ARepeatedInstructionIsOneHitThoughSignalsInterruptIt()
    {
        string[] arguments = ["4", "300", "0", "300"];
        IReadOnlyList<string> alone = RunAlone("signals", null, arguments);
        using TargetProcess target = TargetProcess.StartTarget("signals", null, arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:work_scan:*", CountOnly);
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        long calls = target.GetCount("work_global");
        Assert.That(enabling.Failures, Is.Empty);
        foreach (Probe probe in enabling.Probes)
        {
            Assert.That(enabling.GetHitCount(probe), Is.EqualTo(calls), probe.ToString());
        }

        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines.Last(l => l.StartsWith("checksum ", StringComparison.Ordinal)), Is.EqualTo(alone.Last(l => l.StartsWith("checksum ", StringComparison.Ordinal))));
    }
}
