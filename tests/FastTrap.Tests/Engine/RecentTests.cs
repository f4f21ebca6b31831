using System.Diagnostics;
using FastTrap.Engine;

namespace FastTrap.Tests.Engine;

/// <summary>What is remembered for a time is there in order, over several pieces, and goes with the first addition after that time.</summary>
[TestFixture]
public sealed class RecentTests
{
    [Test]
    public void ItIsInOrderAndForgets()
    {
        const int Count = (3 * Recent<int>.PieceLength) + 1;
        Recent<int> recent = new(TimeSpan.FromMinutes(1));
        Assert.That(recent.IsEmpty);
        for (int i = 0; i < Count; i++)
        {
            recent.Add(i);
        }

        Assert.That(recent.All(), Is.EqualTo(Enumerable.Range(0, Count)));
        Assert.That(recent.IsEmpty, Is.False);

        Recent<int> brief = new(TimeSpan.Zero);
        for (int i = 0; i < Count; i++)
        {
            brief.Add(i);
            long added = Stopwatch.GetTimestamp();
            while (Stopwatch.GetTimestamp() == added)
            {
                // Until it is old.
            }
        }

        Assert.That(brief.All(), Is.EqualTo(new[] { Count - 1 }));
    }
}
