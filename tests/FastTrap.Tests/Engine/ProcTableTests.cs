using FastTrap.Engine;

namespace FastTrap.Tests.Engine;

/// <summary>Procs: total and active counts, defunct ones, pids that are given again.</summary>
[TestFixture]
public sealed class ProcTableTests
{
    [TestCase(1, 1)]
    [TestCase(3, 4)]
    [TestCase(256, 256)]
    [TestCase(257, 512)]
    public void SizesAreRoundedUpToPowersOfTwo(int size, int expected)
    {
        Assert.That(new ProcTable(size).Size, Is.EqualTo(expected));
        Assert.That(new ProviderTable(new ProbeRegistry(1), new ProcTable(1), new GenerationBarrier(), size).Size, Is.EqualTo(expected));
    }

    [Test]
    public void OneImageHasOneEntryWithTwoCounts()
    {
        ProcTable table = new(4);
        ProcEntry first = table.Enter(EngineParts.Process42);
        ProcEntry second = table.Enter(EngineParts.Process42);
        Assert.That(second, Is.SameAs(first));
        Assert.That(first.Counts, Is.EqualTo((2, 2)));

        second.Deactivate();
        Assert.That((first.Counts, first.IsDefunct), Is.EqualTo(((2, 1), false)));
        table.Leave(second, wasActive: false);
        Assert.That((first.Counts, table.Count), Is.EqualTo(((1, 1), 1)));
        table.Leave(first, wasActive: true);
        Assert.That((first.Counts, first.IsDefunct, table.Count), Is.EqualTo(((0, 0), true, 0)));
    }

    [Test]
    public void DefunctEntryIsNotFoundAndStaysForThoseWhoReferToIt()
    {
        ProcTable table = new(4);
        ProcEntry old = table.Enter(EngineParts.Process42);
        old.Deactivate();
        Assert.That(old.TryEnter(), Is.False);

        // An exec: the same pid, started at the same time.
        ProcEntry next = table.Enter(EngineParts.Process42);
        Assert.That(next, Is.Not.SameAs(old));
        Assert.That(table.Count, Is.EqualTo(2));
        table.Leave(old, wasActive: false);
        Assert.That(table.Count, Is.EqualTo(1));
        Assert.That(table.Enter(EngineParts.Process42), Is.SameAs(next));
    }

    [Test]
    public void PidGivenAgainIsAnotherProcessThoughTheOldOneIsActive()
    {
        ProcTable table = new(1);
        ProcEntry old = table.Enter(new ProcIdentity(42, 1000));
        ProcEntry young = table.Enter(new ProcIdentity(42, 2000));
        ProcEntry sameBucket = table.Enter(new ProcIdentity(43, 1000));
        Assert.That(new[] { old, young, sameBucket }, Is.Unique);
        table.Leave(young, wasActive: true);
        Assert.That(table.Enter(new ProcIdentity(42, 1000)), Is.SameAs(old));
        Assert.That(table.Enter(new ProcIdentity(43, 1000)), Is.SameAs(sameBucket));
    }

    [Test]
    public void WhoComesBetweenTheLapsIsFoundInTheSecond()
    {
        ProcTable table = new(4);
        ProcEntry? other = null;
        table.BetweenLaps = () =>
        {
            Assert.That(RankedLock.IsAnyHeld, Is.False, "An allocation under a lock.");
            table.BetweenLaps = null;
            other = table.Enter(EngineParts.Process42);
        };
        ProcEntry mine = table.Enter(EngineParts.Process42);
        Assert.That(mine, Is.SameAs(other));
        Assert.That((mine.Counts, table.Count), Is.EqualTo(((2, 2), 1)));
    }

    [Test]
    public void ManyThreadsMeetInOneEntryAndLeaveNone()
    {
        ProcTable table = new(2);
        Parallel.For(0, 8, thread =>
        {
            for (int i = 0; i < 2000; i++)
            {
                ProcEntry entry = table.Enter(new ProcIdentity(i % 3, 7));
                Assert.That(entry.IsDefunct, Is.False);
                table.Leave(entry, wasActive: true);
            }
        });
        Assert.That(table.Count, Is.Zero);
    }
}
