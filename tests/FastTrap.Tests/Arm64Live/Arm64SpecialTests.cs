using FastTrap.Tests.Arm64Live.Guest;

namespace FastTrap.Tests.Arm64Live;

/// <summary>Instructions of which the oracle knows nothing: keys, long vectors, tags, system calls, signals. The same program alone is the oracle.</summary>
[TestFixture(Plain)]
[TestFixture(Full)]
public sealed class Arm64SpecialTests(string processor) : Arm64LiveTest(processor)
{
    /// <summary>What raises a signal on every processor; tags need a machine with memory for them, and Debian's kernel leaves SME out.</summary>
    private static readonly string[] s_signals =
    [
        "f_bad_retaa", "f_bad_braa", "f_bad_blrabz", "f_copies", "f_udf", "f_hlt", "f_hvc", "f_smc", "f_dcps", "f_eret", "f_privileged", "f_nowhere", "f_nowhere_sve",
        "f_nowhere_atomic", "f_sme", "f_tags",
    ];

    [Test]
    public async Task EachGivesWhatItGivesAlone()
    {
        using GuestProcess target = Start("arm64_special");
        string[] alone = Work(target);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling every = await process.EnableAsync("a.out:f_*:*", CountOnly);
        ProbeEnabling entries = await process.EnableAsync("a.out:f_*:entry", CountOnly);
        string[] probed = Work(target);
        await process.DisposeAsync();
        TestContext.Out.WriteLine($"{every.Probes.Count} probes, {every.HitCount} hits\n{string.Join('\n', alone)}");
        Assert.That(probed, Is.EqualTo(alone));
        Assert.That(entries.Probes.Select(p => entries.GetHitCount(p)), Is.All.EqualTo(3), string.Join(' ', entries.Probes.Select(p => $"{p.Function} {entries.GetHitCount(p)}")));

        // Nothing may stop inside an exclusive pair; and UDF in the midst of a function is taken for data.
        Assert.That(every.Failures.Select(f => (f.Probe.Split(':')[2], f.Refusal)).Distinct(),
            Is.EquivalentTo(new[] { ("f_exclusive", ProbeRefusal.ExclusiveSequence), ("f_udf", ProbeRefusal.NotDecodable) }), string.Join('\n', every.Failures));
        if (HasEverything)
        {
            IEnumerable<string> signalled = alone.SkipLast(1).Where(l => !l.Contains(" 0 signals", StringComparison.Ordinal)).Select(l => l.Split(' ')[1]);
            Assert.That(signalled, Is.EquivalentTo(s_signals), "this processor has all the others");
        }

        Assert.That(Work(target), Is.EqualTo(alone));
        AssertEnds(target);
    }

    /// <summary>The first hit of all maps memory for slots: by a system call, in the midst of what a system call ends.</summary>
    [TestCase("f_sve")]
    [TestCase("f_sve_memory")]
    [TestCase("f_sme")]
    public async Task VectorsOutliveTheMappingOfSlots(string function)
    {
        using GuestProcess target = Start("arm64_special");
        string[] alone = Work(target);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling middle = await process.EnableAsync($"a.out:{function}:18", CountOnly);
        Assert.That(middle.Probes, Has.Count.EqualTo(1));
        Assert.That(Work(target), Is.EqualTo(alone));
        await process.DisposeAsync();
        AssertEnds(target);
    }

    private static string[] Work(GuestProcess target)
    {
        int before = target.Lines.Count;
        target.SendLine("go");
        target.ReadLineStarting("done");
        return [.. target.Lines.Skip(before)];
    }
}
