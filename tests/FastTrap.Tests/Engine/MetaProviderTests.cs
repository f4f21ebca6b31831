using FastTrap.Engine;

namespace FastTrap.Tests.Engine;

/// <summary>Providers that a program describes itself: names, capped stability, probes with several kinds of sites, removal.</summary>
[TestFixture]
public sealed class MetaProviderTests
{
    private readonly EngineParts _parts = new(maximumTracepoints: 100);

    private static MetaProbeDescription Describe(params uint[] offsets) =>
        new() { Module = "a.out", Function = "serve", Name = "query-start", BaseAddress = 0x4000, Offsets = offsets };

    [Test]
    public void NameOfThePidProviderCannotBeTaken()
    {
        ProcEntry proc = _parts.Procs.Enter(new ProcIdentity(1, 1));
        Assert.That(_parts.Meta.TryProvide(proc, "pid", ProviderStability.Pid, out MetaRefusal refusal), Is.Null);
        Assert.That(refusal, Is.EqualTo(MetaRefusal.ReservedName));
        Assert.That(_parts.Meta.TryProvide(proc, new string('p', 54), ProviderStability.Pid, out refusal), Is.Null);
        Assert.That(refusal, Is.EqualTo(MetaRefusal.NameTooLong));
        Assert.That(_parts.Meta.TryProvide(proc, "pid2", ProviderStability.Pid, out refusal), Is.Null);
        Assert.That(refusal, Is.EqualTo(MetaRefusal.ReservedName));
        Assert.That(_parts.Meta.TryProvide(proc, "pid2x", ProviderStability.Pid, out refusal)?.Name, Is.EqualTo("pid2x1"));
        Assert.That(refusal, Is.EqualTo(MetaRefusal.None));
    }

    [Test]
    public void GoneProcessGetsNoProvider()
    {
        ProcEntry proc = _parts.Procs.Enter(new ProcIdentity(2, 1));
        _parts.Providers.RetireAll(proc);
        Assert.That(_parts.Meta.TryProvide(proc, "db", ProviderStability.Pid, out MetaRefusal refusal), Is.Null);
        Assert.That(refusal, Is.EqualTo(MetaRefusal.ProcessGone));
    }

    [Test]
    public void StabilityIsCappedAtTheInstructionSet()
    {
        static StabilityAttributes Of(DependencyClass c) => new(StabilityLevel.Stable, StabilityLevel.Standard, c);
        ProviderStability wished = new(Of(DependencyClass.Common), Of(DependencyClass.Unknown), Of(DependencyClass.Common), Of(DependencyClass.Isa), Of(DependencyClass.Common));
        Provider provider = _parts.Meta.TryProvide(_parts.Procs.Enter(new ProcIdentity(3, 1)), "db", wished, out _)!;
        Assert.That(provider.Stability, Is.EqualTo(new ProviderStability(
            Of(DependencyClass.Isa), Of(DependencyClass.Unknown), Of(DependencyClass.Isa), Of(DependencyClass.Isa), Of(DependencyClass.Isa))));
        Assert.That(_parts.Meta.TryCreateProbe(provider, Describe(8), out _)!.Stability, Is.EqualTo(provider.Stability));
    }

    [Test]
    public void PidProviderHasTheStabilityOfTheReference()
    {
        StabilityAttributes evolving = new(StabilityLevel.Evolving, StabilityLevel.Evolving, DependencyClass.Isa);
        StabilityAttributes own = new(StabilityLevel.Private, StabilityLevel.Private, DependencyClass.Unknown);
        Assert.That(ProviderStability.Pid, Is.EqualTo(new ProviderStability(evolving, own, own, evolving, own)));
    }

    [Test]
    public void ProbeHasSitesTestsAndArguments()
    {
        Provider provider = _parts.Meta.TryProvide(_parts.Procs.Enter(new ProcIdentity(4, 1)), "db", ProviderStability.Pid, out _)!;
        ArgumentDescription[] arguments = [new(0, "int", "query_t", 1, ""), new(1, "char *", "", 0, "")];
        Probe probe = _parts.Meta.TryCreateProbe(
            provider,
            new MetaProbeDescription
            {
                Module = "a.out", Function = "serve", Name = "query-start", BaseAddress = 0x4000, Offsets = [0x30, 0x10], IsEnabledOffsets = [0x20, 0x8], Arguments = arguments,
            },
            out MetaRefusal refusal)!;
        Assert.Multiple(() =>
        {
            Assert.That(refusal, Is.EqualTo(MetaRefusal.None));
            Assert.That(probe.ToString(), Is.EqualTo("db4:a.out:serve:query-start"));
            Assert.That(probe.Sites, Is.EqualTo(new ulong[] { 0x4010, 0x4030 }));
            Assert.That(probe.IsEnabledSites, Is.EqualTo(new ulong[] { 0x4008, 0x4020 }));
            Assert.That((probe.SiteCount, probe.Address, probe.Kind), Is.EqualTo((4, 0x4010, ProbeKind.Offset)));
            Assert.That((probe.IsTestAt(0x4008), probe.IsTestAt(0x4010)), Is.EqualTo((true, false)));
            Assert.That(probe.Arguments, Is.EqualTo(arguments));
            Assert.That(Enumerable.Range(0, 4).Select(probe.Details!.NativeIndex), Is.EqualTo(new[] { 1, 0, 2, 3 }));
        });
    }

    [Test]
    public void SitesMustBeThereAndUnique()
    {
        Provider provider = _parts.Meta.TryProvide(_parts.Procs.Enter(new ProcIdentity(5, 1)), "db", ProviderStability.Pid, out _)!;
        int total = _parts.Registry.Total;
        foreach (uint[] offsets in new uint[][] { [], [8, 4, 8] })
        {
            Assert.That(_parts.Meta.TryCreateProbe(provider, Describe(offsets), out MetaRefusal refusal), Is.Null);
            Assert.That(refusal, Is.EqualTo(MetaRefusal.InvalidOffsets));
        }

        Assert.That(_parts.Meta.TryCreateProbe(provider, Describe([.. Enumerable.Range(0, 101).Select(i => (uint)i)]), out MetaRefusal limit), Is.Null);
        Assert.That((limit, _parts.Registry.Total), Is.EqualTo((MetaRefusal.TooManyTracepoints, total)));
    }

    [Test]
    public void ProbesOfOneNameBecomeOne()
    {
        Provider provider = _parts.Meta.TryProvide(_parts.Procs.Enter(new ProcIdentity(6, 1)), "db", ProviderStability.Pid, out _)!;
        Probe first = _parts.Meta.TryCreateProbe(provider, Describe(0x10), out _)!;
        Assert.That(_parts.Meta.TryCreateProbe(provider, Describe(0x10), out _), Is.SameAs(first));
        Probe both = _parts.Meta.TryCreateProbe(provider, Describe(0x20), out _)!;
        Assert.That(both.Sites, Is.EqualTo(new ulong[] { 0x4010, 0x4020 }));
        Assert.That((first.IsValid, both.IsValid), Is.EqualTo((false, true)));

        // One that is enabled cannot be given more.
        EngineParts.Enable(both);
        Assert.That(_parts.Meta.TryCreateProbe(provider, Describe(0x30), out MetaRefusal refusal), Is.Null);
        Assert.That((refusal, both.IsValid), Is.EqualTo((MetaRefusal.InUse, true)));
    }

    [Test]
    public void ProviderStaysUntilAllHaveRemovedIt()
    {
        EngineParts parts = new();
        ProcEntry proc = parts.Procs.Enter(new ProcIdentity(7, 1));
        Provider provider = parts.Meta.TryProvide(proc, "db", ProviderStability.Pid, out _)!;
        Assert.That(parts.Meta.TryProvide(proc, "db", ProviderStability.Pid, out _), Is.SameAs(provider));
        Probe probe = parts.Meta.TryCreateProbe(provider, Describe(0x10), out _)!;
        provider.Mark();
        parts.Sweep();
        Assert.That(probe.IsValid, "A meta provider stands behind it.");
        parts.Meta.Remove(proc, "db");
        Assert.That(provider.IsRetired, Is.False, "One of two was removed.");
        parts.Meta.Remove(proc, "db");
        Assert.That(provider.IsRetired);
        parts.Sweep();
        Assert.That(parts.Registry.Find(probe.Id), Is.Null);
        Assert.That(proc.Counts, Is.EqualTo((1, 1)));
    }
}
