using FastTrap.Engine;

namespace FastTrap.Tests.Engine;

/// <summary>Providers: three counts, retired and marked, look-up or creation in two laps, and their removal by the cleaner.</summary>
[TestFixture]
public sealed class ProviderTableTests
{
    [Test]
    public void LookUpMakesOneProviderAndRaisesACount()
    {
        EngineParts parts = new();
        ProcEntry proc = parts.Procs.Enter(EngineParts.Process42);
        Provider first = parts.Hold(proc);
        Provider second = parts.Hold(proc, hold: ProviderHold.Meta);
        Provider other = parts.Hold(proc, "postgresql");
        Assert.Multiple(() =>
        {
            Assert.That(second, Is.SameAs(first));
            Assert.That(other, Is.Not.SameAs(first));
            Assert.That((first.Name, other.Name), Is.EqualTo(("pid42", "postgresql42")));
            Assert.That(first.Counts, Is.EqualTo(new ProviderCounts(0, 1, 1)));
            Assert.That(proc.Counts, Is.EqualTo((3, 3)), "The image and two providers are active.");
        });
    }

    [Test]
    public void WhoMakesTheProviderBetweenTheLapsHasMadeIt()
    {
        EngineParts parts = new();
        ProcEntry proc = parts.Procs.Enter(EngineParts.Process42);
        Provider? other = null;
        parts.Providers.BetweenLaps = () =>
        {
            Assert.That(RankedLock.IsAnyHeld, Is.False, "An allocation under a lock.");
            parts.Providers.BetweenLaps = null;
            other = parts.Hold(proc);
        };
        Provider mine = parts.Hold(proc);
        Assert.That(mine, Is.SameAs(other));
        Assert.That(mine.Counts.Creating, Is.EqualTo(2));
        Assert.That(proc.Counts, Is.EqualTo((2, 2)), "What was made in vain left a count.");
    }

    [Test]
    public void ImageThatGoesBetweenTheLapsGetsNoProvider()
    {
        EngineParts parts = new();
        ProcEntry proc = parts.Procs.Enter(EngineParts.Process42);
        parts.Providers.BetweenLaps = () => parts.Providers.RetireAll(proc);
        Assert.That(parts.Hold(proc), Is.Null);
        Assert.That(parts.Providers.All(), Is.Empty);
        parts.Procs.Leave(proc, wasActive: true);
        Assert.That(parts.Procs.Count, Is.Zero);
    }

    [Test]
    public void RetiredProviderIsNotFoundAndGoesWhenNobodyUsesIt()
    {
        EngineParts parts = new();
        ProcEntry proc = parts.Procs.Enter(EngineParts.Process42);
        Provider provider = parts.Hold(proc, "usdt");
        Probe probe = parts.Create(provider);
        EngineParts.Enable(probe);
        Assert.That(parts.Providers.Retire(proc, "usdt", byMeta: false));
        Assert.That(parts.Providers.Retire(proc, "usdt", byMeta: false), Is.False, "It was retired twice.");
        Assert.That((provider.IsRetired, provider.IsMarked, probe.IsValid), Is.EqualTo((true, true, false)));
        Assert.That(proc.Counts, Is.EqualTo((2, 1)));

        // One who creates keeps it; its mark goes, and comes back with the release.
        Assert.That(parts.Sweep(), Is.Zero);
        Assert.That((provider.IsMarked, parts.Providers.All().Count), Is.EqualTo((false, 1)));
        int wanted = parts.CleanupWanted;
        parts.Providers.Release(provider, ProviderHold.Creating);
        Assert.That(provider.IsMarked);
        Assert.That(parts.CleanupWanted, Is.EqualTo(wanted + 1));

        // So does an enabled probe: nothing but its disabling can change that.
        Assert.That(parts.Sweep(), Is.Zero);
        Assert.That((provider.IsMarked, parts.Providers.All().Count), Is.EqualTo((false, 1)));
        Assert.That(parts.Disable(probe), "A retired provider whose probe is disabled must be looked after.");
        Assert.That(parts.Sweep(), Is.Zero);
        Assert.That(parts.Providers.All(), Is.Empty);
    }

    [Test]
    public void CleanerFreesARetiredProviderAndItsProc()
    {
        EngineParts parts = new();
        ProcEntry proc = parts.Procs.Enter(EngineParts.Process42);
        Provider provider = parts.Hold(proc);
        Probe probe = parts.Create(provider);
        EngineParts.Enable(probe);
        parts.Providers.Release(provider, ProviderHold.Creating);
        parts.Providers.RetireAll(proc);
        parts.Procs.Leave(proc, wasActive: true);
        Assert.That((proc.IsDefunct, proc.Counts), Is.EqualTo((true, (1, 0))), "The provider refers to it still.");
        Assert.That(provider.Counts, Is.EqualTo(default(ProviderCounts)), "Traps are gone with the address space.");
        Assert.That(parts.Registry.Find(probe.Id), Is.SameAs(probe));

        Assert.That(parts.Sweep(), Is.Zero);
        Assert.That(parts.Providers.All(), Is.Empty);
        Assert.That(parts.Registry.Find(probe.Id), Is.Null);
        Assert.That((parts.Procs.Count, parts.Registry.Total), Is.EqualTo((0, 0)));
    }

    [Test]
    public void MarkedProviderThatIsAliveMayBeRemovedAndIsMadeAgain()
    {
        EngineParts parts = new();
        ProcEntry proc = parts.Procs.Enter(EngineParts.Process42);
        Provider provider = parts.Hold(proc);
        parts.Create(provider);
        parts.Providers.Release(provider, ProviderHold.Creating);
        parts.Sweep();
        Assert.That(parts.Providers.All(), Has.Count.EqualTo(1), "It was not marked.");
        provider.Mark();
        parts.Sweep();
        Assert.That(parts.Providers.All(), Is.Empty);
        Assert.That(proc.Counts, Is.EqualTo((1, 1)), "It was active until it was freed.");
        Assert.That(parts.Hold(proc), Is.Not.Null.And.Not.SameAs(provider));
    }

    [Test]
    public void OverHalfOfTheLimitUnusedProbesAreForgotten()
    {
        EngineParts parts = new(maximumTracepoints: 10);
        ProcEntry proc = parts.Procs.Enter(EngineParts.Process42);
        Provider provider = parts.Hold(proc);
        Probe kept = parts.Create(provider, "kept");
        EngineParts.Enable(kept);
        Probe[] unused = [.. Enumerable.Range(0, 4).Select(i => parts.Create(provider, $"f{i}"))];
        parts.Providers.Release(provider, ProviderHold.Creating);
        provider.Mark();
        parts.Sweep();
        Assert.That(unused.Select(p => p.IsValid), Is.All.True, "Half is not more than half.");

        Probe disabled = parts.Create(provider, "disabled");
        EngineParts.Enable(disabled);
        Assert.That(parts.Disable(disabled), "More than half: the cleaner should look.");
        parts.Sweep();
        Assert.That(unused.Append(disabled).Select(p => p.IsValid), Is.All.False);
        Assert.That((kept.IsValid, parts.Registry.Total), Is.EqualTo((true, 1)));
    }

    [Test]
    public void RoomIsMadeOfOthersUnusedProbesButNotWhileTheyCreate()
    {
        EngineParts parts = new(maximumTracepoints: 3);
        ProcEntry mine = parts.Procs.Enter(EngineParts.Process42);
        ProcEntry others = parts.Procs.Enter(new ProcIdentity(43, 1));
        Provider own = parts.Hold(mine);
        Provider busy = parts.Hold(others);
        Provider meta = parts.Hold(others, "usdt", ProviderHold.Meta);
        Probe ownUnused = parts.Create(own);
        Probe busyUnused = parts.Create(busy);
        Probe metaUnused = parts.Create(meta);
        Assert.That(parts.Create(own, "g"), Is.Null);
        Assert.That(parts.Providers.MakeRoom(mine));
        Assert.That(new[] { ownUnused, busyUnused, metaUnused }.Select(p => p.IsValid), Is.EqualTo(new[] { false, true, true }));
        Assert.That(parts.Create(own, "g"), Is.Not.Null);
        Assert.That(parts.CleanupWanted, Is.EqualTo(1));
    }

    [Test]
    public void PidGivenAgainMeetsNothingOfTheOldProcess()
    {
        EngineParts parts = new();
        ProcEntry old = parts.Procs.Enter(new ProcIdentity(42, 1000));
        Provider oldProvider = parts.Hold(old);
        Probe oldProbe = parts.Create(oldProvider);
        EngineParts.Enable(oldProbe);

        // Nobody has said yet that the old one has ended.
        ProcEntry young = parts.Procs.Enter(new ProcIdentity(42, 2000));
        Provider youngProvider = parts.Hold(young);
        Assert.That(youngProvider.Name, Is.EqualTo(oldProvider.Name));
        Assert.That(youngProvider, Is.Not.SameAs(oldProvider));
        Assert.That(parts.Registry.Find(youngProvider, null, "f", "entry", 0x1000), Is.Null);

        parts.Providers.RetireAll(old);
        Assert.That((oldProvider.IsRetired, youngProvider.IsRetired), Is.EqualTo((true, false)));
        Assert.That(parts.Hold(young), Is.SameAs(youngProvider));
        Assert.That(parts.Hold(old), Is.Null);
    }

    [Test]
    public void NameThatLeavesNoRoomForAPidIsRefused()
    {
        EngineParts parts = new();
        ProcEntry proc = parts.Procs.Enter(EngineParts.Process42);
        Assert.That(parts.Hold(proc, new string('x', 53)), Is.Not.Null);
        Assert.That(parts.Hold(proc, new string('x', 54)), Is.Null);
        Assert.That(parts.Hold(proc, new string('ä', 27)), Is.Null, "Bytes count, not characters.");
        Assert.That(proc.Counts, Is.EqualTo((2, 2)));
    }

    [Test]
    public void CreatingRetiringAndCleaningAtOnceLeavesNothing()
    {
        EngineParts parts = new(maximumTracepoints: 50);
        using CancellationTokenSource over = new();
        Task cleaner = Task.Run(() =>
        {
            while (!over.IsCancellationRequested)
            {
                parts.Sweep();
            }
        });
        Parallel.For(0, 4, thread =>
        {
            for (int i = 0; i < 500; i++)
            {
                ProcEntry proc = parts.Procs.Enter(new ProcIdentity(100 + thread, (ulong)i));
                Provider provider = parts.Hold(proc);
                Probe? probe = parts.Create(provider) ?? (parts.Providers.MakeRoom(proc) ? parts.Create(provider) : null);
                if (probe is not null)
                {
                    EngineParts.Enable(probe);
                }

                parts.Providers.Release(provider, ProviderHold.Creating);
                if (probe is not null && i % 2 == 0)
                {
                    parts.Disable(probe);
                }

                parts.Providers.RetireAll(proc);
                parts.Procs.Leave(proc, wasActive: true);
            }
        });
        over.Cancel();
        cleaner.Wait();
        parts.Sweep();
        Assert.That((parts.Providers.All().Count, parts.Procs.Count, parts.Registry.Count, parts.Registry.Total), Is.EqualTo((0, 0, 0, 0)));
    }
}
