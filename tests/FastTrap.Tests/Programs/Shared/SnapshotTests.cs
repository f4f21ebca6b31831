using FastTrap.Programs.Shared;

namespace FastTrap.Tests.Programs.Shared;

/// <summary>Counters of many threads, taken together: exact at rest, never smaller than before while threads count.</summary>
[TestFixture]
[NonParallelizable]
internal sealed class SnapshotTests
{
    private const int Steps = 65;

    [TestCase(3, 200_000, 256)]
    [TestCase(40, 5_000, 8)]
    public async Task SumsAreTheThreads(int threads, int calls, int lanes)
    {
        await using SharedTarget shared = await SharedTarget.StartAsync(new LaneLayout((1 + CounterSnapshot.SumWords + Steps) * 8, 0, lanes), [0, .. CounterSnapshot.EmptySum]);
        Assert.That(CounterSnapshot.ReadSum(shared.Region, 1), Is.EqualTo(new LaneSum(0, 0, long.MaxValue, long.MinValue)));
        shared.Target.SendLine($"count {threads} {calls}");
        Task done = Task.Run(() => shared.Target.ReadLineStarting("done"));
        ulong[] before = new ulong[Steps];
        ulong[] now = new ulong[Steps];
        long snapshots = 0;
        do
        {
            CounterSnapshot.Add(shared.Region, 1 + CounterSnapshot.SumWords, now);
            Assert.That(now.Zip(before).All(pair => pair.First >= pair.Second));
            (before, now) = (now, before);
            snapshots++;
        }
        while (!done.IsCompleted);

        await done;
        long[] values = [.. Enumerable.Range(0, threads).SelectMany(t => Enumerable.Range(0, calls).Select(i => (((i * 37L) + t) % 2001) - 1000))];
        ulong[] count = new ulong[1];
        CounterSnapshot.Add(shared.Region, 0, count);
        Assert.That(count[0], Is.EqualTo((ulong)values.Length));
        Assert.That(CounterSnapshot.ReadSum(shared.Region, 1), Is.EqualTo(new LaneSum(values.Length, values.Sum(), values.Min(), values.Max())));
        CounterSnapshot.Add(shared.Region, 1 + CounterSnapshot.SumWords, now);
        ulong[] expected = new ulong[Steps];
        foreach (long value in values)
        {
            expected[HistogramScale.PowersOfTwo.IndexOf(value)]++;
        }

        Assert.That(now, Is.EqualTo(expected));
        TestContext.Out.WriteLine($"{snapshots} snapshots");
        shared.End();
    }
}
