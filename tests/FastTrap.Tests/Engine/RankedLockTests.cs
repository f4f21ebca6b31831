using FastTrap.Engine;

namespace FastTrap.Tests.Engine;

/// <summary>Locks taken in another order than theirs are found at the first time, not at the first deadlock.</summary>
[TestFixture]
public sealed class RankedLockTests
{
    [Test]
    public void OrderIsCheckedInThisRun() => Assert.That(RankedLock.IsChecked);

    [Test]
    public void RisingRanksMayBeNested()
    {
        RankedLock bucket = new(LockRank.ProviderBucket);
        RankedLock registry = new(LockRank.Registry);
        RankedLock provider = new(LockRank.Provider);
        for (int round = 0; round < 2; round++)
        {
            using (bucket.Enter())
            using (registry.Enter())
            using (provider.Enter())
            {
                Assert.That(RankedLock.IsAnyHeld);
            }

            Assert.That(RankedLock.IsAnyHeld, Is.False);
        }
    }

    [Test]
    public void EveryOtherOrderIsRefused()
    {
        foreach (LockRank held in Enum.GetValues<LockRank>())
        {
            foreach (LockRank taken in Enum.GetValues<LockRank>())
            {
                bool isApart = held == LockRank.ProviderCreation && taken == LockRank.Provider;
                RankedLock first = new(held);
                RankedLock second = new(taken);
                using (first.Enter())
                {
                    if (taken > held && !isApart)
                    {
                        second.Enter().Dispose();
                        continue;
                    }

                    InvalidOperationException? error = Assert.Throws<InvalidOperationException>(() => second.Enter().Dispose());
                    Assert.That(error!.Message, Does.Contain(isApart ? "never held together" : taken.ToString()));
                }

                // The one that was refused was not taken, and the check is as before.
                second.Enter().Dispose();
            }
        }
    }

    [Test]
    public void ThreadsAreCheckedEachByItself()
    {
        RankedLock leaf = new(LockRank.Leaf);
        RankedLock registry = new(LockRank.Registry);
        using (leaf.Enter())
        {
            Exception? error = null;
            Thread other = new(() =>
            {
                try
                {
                    registry.Enter().Dispose();
                }
                catch (InvalidOperationException e)
                {
                    error = e;
                }
            });
            other.Start();
            other.Join();
            Assert.That(error, Is.Null);
        }
    }
}
