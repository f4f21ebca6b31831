using FastTrap.Tests.Arm64Live.Guest;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Arm64Live;

/// <summary>Signals and faults of probed arm64 programs: they come at original addresses, once, with the results of the program alone.</summary>
[TestFixture(Plain)]
[TestFixture(Full)]
public sealed class Arm64SignalTests(string processor) : Arm64LiveTest(processor)
{
    [TestCase("a.out:work_*:*")]
    [TestCase("a.out:work_*:entry")]
    public async Task SignalsAreSeenAtOriginalAddresses(string description)
    {
        string[] arguments = ["2", "12", "0", "12"];
        IReadOnlyList<string> alone = RunAlone("arm64_signals", arguments);
        using GuestProcess target = Start("arm64_signals", arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync(description, CountOnly);
        ProbeEnabling work = await process.EnableAsync("a.out:work_global:entry", CountOnly);
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.That(enabling.HitCount, Is.Positive);
        Assert.That(enabling.Failures, Is.Empty);
        Assert.That(target.GetCount("handled"), Is.GreaterThanOrEqualTo(12));

        // Each thread asks once more for the result that it compares with.
        Assert.That(work.HitCount, Is.EqualTo(target.GetCount("work")));
        Assert.That(target.Lines[^1], Is.EqualTo(alone[^1]));
        AssertEnds(target);
    }

    [Test]
    public async Task FaultsAreSeenAtOriginalAddresses()
    {
        string[] arguments = ["1", "1", "4", "0"];
        IReadOnlyList<string> alone = RunAlone("arm64_signals", arguments);
        using GuestProcess target = Start("arm64_signals", arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:fault_*:*", CountOnly);
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.That(enabling.HitCount, Is.Positive);
        Assert.That(target.GetCount("faults"), Is.EqualTo(28));
        Assert.That(target.Lines[^1], Is.EqualTo(alone[^1]));
        AssertEnds(target);
    }

    [TestCase("a.out:work_*:*", "1", "12", "2")]
    [TestCase("a.out:unw*:*", "1", "0", "6")]
    [TestCase("a.out:_Unwind_*:*", "1", "0", "1")]
    public async Task EveryFrameIsOfKnownText(string description, params string[] arguments)
    {
        IReadOnlyList<string> alone = RunAlone("unwinds", arguments);
        using GuestProcess target = Start("unwinds", arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync(description, CountOnly);
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        TestContext.Out.WriteLine($"{enabling.Probes.Count} probes, {enabling.HitCount} hits; {string.Join(", ", target.Lines)}");
        Assert.That(enabling.HitCount, Is.GreaterThan(100));
        Assert.That(target.Lines.TakeLast(2), Is.EqualTo(alone.TakeLast(2)));
        AssertEnds(target);
    }
}
