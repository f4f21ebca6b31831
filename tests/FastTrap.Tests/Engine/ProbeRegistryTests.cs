using FastTrap.Engine;

namespace FastTrap.Tests.Engine;

/// <summary>Probes by number and by name, their limit, and how they are forgotten.</summary>
[TestFixture]
public sealed class ProbeRegistryTests
{
    [Test]
    public void ProbesAreFoundByNumberAndByName()
    {
        EngineParts parts = new(maximumTracepoints: 10_000);
        Provider provider = parts.Hold(parts.Procs.Enter(EngineParts.Process42));
        Probe[] probes = [.. Enumerable.Range(0, 3000).Select(i => parts.Create(provider, $"f{i / 3}", new[] { "entry", "return", "1a" }[i % 3], 0x1000 + ((ulong)i / 3 * 16)))];
        Assert.That(probes.Select(p => p.Id), Is.Unique.And.All.GreaterThan(0));
        foreach (Probe probe in probes)
        {
            Assert.That(parts.Registry.Find(probe.Id), Is.SameAs(probe));
            Assert.That(parts.Registry.Find("pid42", "a.out", probe.Function, probe.Name), Is.SameAs(probe));
            Assert.That(parts.Registry.Find(provider, null, probe.Function, probe.Name, probe.FunctionAddress), Is.SameAs(probe));
            Assert.That(probe.IsValid);
        }

        Assert.Multiple(() =>
        {
            Assert.That(parts.Registry.Count, Is.EqualTo(3000));
            Assert.That(parts.Registry.Find(0), Is.Null);
            Assert.That(parts.Registry.Find(probes.Max(p => p.Id) + 1), Is.Null);
            Assert.That(parts.Registry.Find("pid43", "a.out", "f1", "entry"), Is.Null);
            Assert.That(parts.Registry.Find("pid42", "libc.so.6", "f1", "entry"), Is.Null);
            Assert.That(parts.Registry.Find("pid42", "a.out", "f1", "exit"), Is.Null);
            Assert.That(parts.Registry.Find(provider, null, "f1", "entry", 0x9999), Is.Null);
        });
    }

    [Test]
    public void FunctionsOfOneNameAreProbesOfTheirOwn()
    {
        EngineParts parts = new();
        Provider provider = parts.Hold(parts.Procs.Enter(EngineParts.Process42));
        Probe here = parts.Create(provider, "init", address: 0x1000);
        Probe there = parts.Create(provider, "init", address: 0x2000);
        Assert.That(parts.Registry.Find(provider, null, "init", "entry", 0x1000), Is.SameAs(here));
        Assert.That(parts.Registry.Find(provider, null, "init", "entry", 0x2000), Is.SameAs(there));
        Assert.That(parts.Registry.Find("pid42", "a.out", "init", "entry"), Is.SameAs(here).Or.SameAs(there));
    }

    [Test]
    public void LimitCountsEveryInstructionOfARegisteredProbeAndIsExact()
    {
        EngineParts parts = new(maximumTracepoints: 5);
        Provider provider = parts.Hold(parts.Procs.Enter(EngineParts.Process42));
        Probe three = parts.Create(provider, "f", "return", sites: 3);
        Probe two = parts.Create(provider, "g", "return", sites: 2);
        Assert.That(parts.Registry.Total, Is.EqualTo(5));
        Assert.That(parts.Create(provider, "h"), Is.Null);
        Assert.That((parts.Registry.Total, parts.Registry.Count), Is.EqualTo((5, 2)), "A refusal changed something.");

        parts.Registry.Forget(two);
        Assert.That(parts.Create(provider, "h", "return", sites: 3), Is.Null);
        Assert.That(parts.Create(provider, "h", "return", sites: 2), Is.Not.Null);
        Assert.That(parts.Registry.Find(two.Id), Is.Null);
        Assert.That(two.IsValid, Is.False);
        Assert.That(three.IsValid);
    }

    [Test]
    public void SiteThatIsThereTwiceIsRefused()
    {
        EngineParts parts = new();
        Provider provider = parts.Hold(parts.Procs.Enter(EngineParts.Process42));
        Probe? Create(params ulong[] sites) => parts.Registry.TryCreate(provider, "a.out", "f", "return", ProbeKind.Return, 0x1000, 64, sites, null);
        Assert.Throws<ArgumentException>(() => Create(0x1000, 0x1008, 0x1000));
        Assert.Throws<ArgumentException>(() => Create(0x1000, 0x1000));
        Assert.Throws<ArgumentOutOfRangeException>(() => Create());
        Assert.That(parts.Registry.Total, Is.Zero);

        // A split part may lie below the function.
        Assert.That(Create(0x1000, 0x1008, 0x800), Is.Not.Null);
    }

    [Test]
    public void InvalidProbesAreNotFoundByNameAndStayWithWhoHasThem()
    {
        EngineParts parts = new();
        Provider provider = parts.Hold(parts.Procs.Enter(EngineParts.Process42));
        Probe probe = parts.Create(provider);
        parts.Registry.Invalidate(provider);
        Assert.That(parts.Registry.Find("pid42", "a.out", "f", "entry"), Is.Null);
        Assert.That(parts.Registry.Find(provider, null, "f", "entry", 0x1000), Is.Null);
        Assert.That(parts.Registry.Find(probe.Id), Is.SameAs(probe));
        Assert.That(probe.ToString(), Is.EqualTo("pid42:a.out:f:entry"));
    }

    [Test]
    public void ProviderInUseCannotBeUnregistered()
    {
        EngineParts parts = new();
        Provider provider = parts.Hold(parts.Procs.Enter(EngineParts.Process42));
        Probe probe = parts.Create(provider);
        Assert.That(parts.Registry.Unregister(provider, parts.Barrier), Is.EqualTo(UnregisterOutcome.InUse), "It is being created in.");

        EngineParts.Enable(probe);
        parts.Providers.Release(provider, ProviderHold.Creating);
        Assert.That(parts.Registry.Unregister(provider, parts.Barrier), Is.EqualTo(UnregisterOutcome.InUse), "A probe is enabled.");
        Assert.That(parts.Registry.Find(probe.Id), Is.SameAs(probe));

        parts.Disable(probe);
        Assert.That(parts.Registry.Unregister(provider, parts.Barrier), Is.EqualTo(UnregisterOutcome.TryAgain), "A hit may be under way.");
        Assert.That(parts.Barrier.Wait(provider.Generation, TimeSpan.FromSeconds(10)));
        Assert.That(parts.Registry.Unregister(provider, parts.Barrier), Is.EqualTo(UnregisterOutcome.Done));
        Assert.That((parts.Registry.Count, parts.Registry.Total), Is.EqualTo((0, 0)));
    }

    [Test]
    public void CondenseForgetsWhatNobodyHasEnabled()
    {
        EngineParts parts = new();
        Provider provider = parts.Hold(parts.Procs.Enter(EngineParts.Process42));
        Probe[] probes = [.. Enumerable.Range(0, 100).Select(i => parts.Create(provider, $"f{i}"))];
        foreach (Probe probe in probes.Where((_, i) => i % 2 == 0))
        {
            EngineParts.Enable(probe);
        }

        Assert.That(parts.Registry.Condense(provider), Is.EqualTo(50));
        Assert.That(probes.Select(p => parts.Registry.Find(p.Id) == p), Is.EqualTo(probes.Select((_, i) => i % 2 == 0)));
        Assert.That(parts.Registry.Total, Is.EqualTo(50));
        Probe again = parts.Create(provider, "f1");
        Assert.That(again.Id, Is.GreaterThan(probes.Max(p => p.Id)), "Numbers are not given twice.");
    }
}
