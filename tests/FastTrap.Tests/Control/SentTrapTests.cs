using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Control;

/// <summary>SIGTRAPs that are sent to threads which run into traps meanwhile: each arrives once, with its details, and no hit is lost.</summary>
[TestFixture]
public sealed class SentTrapTests : LiveTest
{
    [Test]
    public async Task PendingSignalStaysPendingUnderATrap(
        [Values("handler", "ignore", "default")] string disposition, [Values("entry", "return", "*")] string name, [Values(0, 2)] int optimization)
    {
        using TargetProcess target = TargetProcess.StartTarget("blocked", new TargetVariant(Optimization: optimization), ["50", disposition, "1"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling hot = await process.EnableAsync($"a.out:hot:{name}", CountOnly);
        ProbeEnabling slot = await process.EnableAsync($"a.out:hot_slot:{name}", CountOnly);
        target.SendLine("go");
        long count = target.ReadCount("hot");
        await process.DisposeAsync();
        foreach (ProbeEnabling enabling in (ProbeEnabling[])[hot, slot])
        {
            Assert.That(enabling.Failures, Is.Empty);
            Assert.That(enabling.Probes.Select(enabling.GetHitCount), Is.All.EqualTo(count));
        }

        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task IgnoredSignalStaysIgnored()
    {
        using TargetProcess target = TargetProcess.StartTarget("blocked", null, ["5", "ignore"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling hot = await process.EnableAsync("a.out:hot:entry", CountOnly);
        target.SendLine("go");
        Assert.That(target.ReadCount("hot"), Is.EqualTo(hot.HitCount));
        target.Signal(5);
        WaitUntil(() => File.ReadAllLines($"/proc/{target.ProcessId}/status").Any(l => l == "ShdPnd:\t0000000000000000"), "the signal is taken");
        await process.DisposeAsync();
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [TestCase("a.out:work_*:entry")]
    [TestCase("a.out:work_*:return")]
    [TestCase("a.out:work_*:*")]
    public Task SignalsReachTheirHandler(string description) => SendTraps(description, 200);

    [Explicit("The same for a minute.")]
    [TestCase("a.out:work_*:entry")]
    [TestCase("a.out:work_*:return")]
    [TestCase("a.out:work_*:*")]
    public Task ManySignalsReachTheirHandler(string description) => SendTraps(description, 20_000);

    private async Task SendTraps(string description, int traps)
    {
        string[] arguments = ["2", "50", "0", "50", $"{traps}"];
        IReadOnlyList<string> alone = RunAlone("signals", new TargetVariant(Optimization: 0), arguments);
        using TargetProcess target = TargetProcess.StartTarget("signals", new TargetVariant(Optimization: 0), arguments);
        using DroppedSignals? dropped = DroppedSignals.TryWatch(target.ProcessId);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync(description, CountOnly);
        ProbeEnabling work = await process.EnableAsync("a.out:work_global:entry", CountOnly);
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.That(enabling.HitCount, Is.Positive);
        Assert.That(work.HitCount, Is.EqualTo(target.GetCount("work_global")));
        TextCheck.AssertClean(target.ProcessId);
        Assert.That(target.Lines[^1], Is.EqualTo(alone.Last(l => l.StartsWith("checksum ", StringComparison.Ordinal))));
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
        long sent = traps + target.GetCount("again");
        Assert.That(target.GetCount("trapped"), Is.InRange(traps, sent), "None arrives twice.");
        TestContext.Out.WriteLine($"sent again: {target.GetCount("again")}");
        if (dropped is null)
        {
            Assert.Ignore("All but one thing was seen: which of those that were sent again the kernel had dropped. To say so it needs root and tracefs.");
        }

        Assert.That(target.GetCount("trapped") + dropped.Count, Is.EqualTo(sent), "What the kernel did not drop arrives, once.");
    }
}
