using System.Globalization;
using FastTrap.Tests.Arm64Live.Guest;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Arm64Live;

/// <summary>Static probes and followed children of arm64 programs: what the program prints is the oracle.</summary>
[TestFixture(Plain)]
[TestFixture(Full)]
public sealed class Arm64ProgramTests(string processor) : Arm64LiveTest(processor)
{
    [Test]
    public async Task StaticProbesHaveTheArgumentsWhichTheProgramPrints()
    {
        const int Rounds = 12;
        using GuestProcess target = Start("arm64_usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("fasttrap_test*:a.out::*", new ProbeOptions { ArgumentCount = 5, BufferCapacity = 256 });
        Assert.That(enabling.Failures, Is.Empty);
        Assert.That(enabling.Probes.Select(p => p.Name), Is.EquivalentTo(new[] { "general", "memory" }));
        target.SendLine($"args {Rounds}");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        List<string> seen = [];
        await foreach (ProbeHit hit in enabling.ReadAllAsync())
        {
            seen.Add($"hit {hit.Probe.Name} {string.Join(' ', Enumerable.Range(0, hit.Arguments.Count).Select(i => hit.Arguments[i].ToString("x", CultureInfo.InvariantCulture)))}");
        }

        Assert.That(enabling.HitCount, Is.EqualTo(2 * Rounds));
        Assert.That(seen, Is.EqualTo(target.Lines.Where(l => l.StartsWith("hit ", StringComparison.Ordinal))));
        AssertEnds(target);
    }

    [Test]
    public async Task ChildrenThatAreFollowedAreProbed()
    {
        const int Children = 3;
        using GuestProcess target = Start("arm64_usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId, new AttachOptions { FollowChildren = true });
        StandingEnabling every = await Tracer.EnableAsync("a.out:in_child:*", CountOnly);
        StandingEnabling entry = await Tracer.EnableAsync("a.out:in_child:entry", CountOnly);
        target.SendLine($"forks {Children}");
        Assert.That(target.ReadCount("in_child"), Is.EqualTo(3 * Children));
        WaitUntil(() => Tracer.Processes.Count == 1, "the children's ends");
        Assert.That(entry.HitCount, Is.EqualTo(3 * Children));
        Assert.That(every.HitCount, Is.GreaterThan(6 * Children));
        await process.DisposeAsync();
        AssertEnds(target);
    }
}
