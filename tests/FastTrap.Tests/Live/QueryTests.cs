using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Queries on a live target: what comes of them is what the target did.</summary>
[TestFixture]
public sealed class QueryTests : LiveTest
{
    private const int Calls = 500;

    [Test]
    public async Task RecordsSumsAndCountsAreThoseOfTheCalls()
    {
        using TargetProcess target = await StartAsync();
        TracedProcess process = Tracer.Processes[0];
        int least = 100;
        ProbeQuery entry = process.On("a.out:hot:entry").Where(c => (int)c.Arg(0) >= least);
        var records = await entry.Record(c => new { Value = (int)c.Arg(0), Double = c.Arg(0) * 2, c.ThreadId, Constant = least }).EnableAsync();
        ProbeSum sum = await entry.Sum(c => (long)c.Arg(0)).EnableAsync();
        ProbeSum count = await entry.Count().EnableAsync();
        ProbeHistogram powers = await entry.Histogram(c => (long)c.Arg(0)).EnableAsync();
        ProbeHistogram steps = await entry.Histogram(c => (long)c.Arg(0), 200, 300, 50).EnableAsync();
        ProbeCounts<int> keys = await entry.CountBy(c => (int)c.Arg(0) % 7).EnableAsync();
        ProbeCounts<bool> few = await entry.CountBy(c => c.Arg(0) > 250, capacity: 1).EnableAsync();
        ProbeLatencies times = await entry.Latency().EnableAsync();
        ProbeSum results = await process.On("a.out:hot:return").Sum(c => (long)c.ReturnValue).EnableAsync();
        least = 0;
        Assert.That(target.SendAndReadCount($"go {Calls}", "hot"), Is.EqualTo(Calls));
        foreach (ProbeResult result in new ProbeResult[] { records, sum, count, powers, steps, keys, few, times, results })
        {
            await result.DisposeAsync();
            Assert.That(result.IncompleteCount, Is.Zero);
        }

        int[] values = [.. Enumerable.Range(100, Calls - 100)];
        List<int> read = [];
        await foreach (var record in records.ReadAllAsync())
        {
            Assert.That((record.Value.Double, record.Value.ThreadId, record.Value.Constant), Is.EqualTo(((ulong)record.Value.Value * 2, target.ProcessId, 100)));
            Assert.That((record.ThreadId, record.IsComplete, record.Probe.Name), Is.EqualTo((target.ProcessId, true, "entry")));
            read.Add(record.Value.Value);
        }

        Assert.That(read, Is.EqualTo(values));
        Assert.That((sum.Sum, sum.Minimum, sum.Maximum, sum.Count), Is.EqualTo((values.Sum(v => (long)v), 100L, Calls - 1L, (long)values.Length)));
        Assert.That(count.Sum, Is.EqualTo(values.Length));
        Assert.That(powers.GetSteps(), Is.EqualTo(new[] { new HistogramStep(64, 127, 28), new HistogramStep(128, 255, 128), new HistogramStep(256, 511, Calls - 256) }));
        Assert.That(
            steps.GetSteps(),
            Is.EqualTo(new[] { new HistogramStep(long.MinValue, 199, 100), new HistogramStep(200, 249, 50), new HistogramStep(250, 299, 50), new HistogramStep(300, long.MaxValue, Calls - 300) }));
        Assert.That(keys.GetCounts(), Is.EquivalentTo(values.GroupBy(v => v % 7).ToDictionary(g => g.Key, g => (long)g.Count())));
        Assert.That((few.GetCounts()[false], few.OtherCount), Is.EqualTo((151L, Calls - 251L)));
        Assert.That((times.Count, times.ReturnCount), Is.EqualTo(((long)values.Length, (long)values.Length)));
        Assert.That(times.GetSteps().Sum(s => s.Count), Is.EqualTo(values.Length));
        Assert.That(times.TotalNs, Is.Positive);
        Assert.That(results.Sum, Is.EqualTo(Enumerable.Range(0, Calls).Sum(v => (v * 2L) + 1)));
        End(target);
    }

    [Test]
    public async Task RecordsCanBeInitializedByMembersAndKeysBeConstant()
    {
        using TargetProcess target = await StartAsync();
        ProbeQuery entry = Tracer.Processes[0].On("a.out:hot:entry");
        ProbeRecords<Sample> samples = await entry.Record(c => new Sample(5) { Value = (int)c.Arg(0), Text = c.ReadString(0, 8) }).EnableAsync();
        ProbeCounts<int> one = await entry.CountBy(c => 5).EnableAsync();
        Assert.That(target.SendAndReadCount("go 20", "hot"), Is.EqualTo(20));
        await samples.DisposeAsync();
        await one.DisposeAsync();
        List<ProbeRecord<Sample>> records = [];
        await foreach (ProbeRecord<Sample> record in samples.ReadAllAsync())
        {
            records.Add(record);
        }

        Assert.That(records.Select(r => (r.Value.Number, r.Value.Value, r.Value.Text)), Is.EqualTo(Enumerable.Range(0, 20).Select(i => (5, i, (string?)null))));
        Assert.That(records.Select(r => r.Value).Distinct(ReferenceEqualityComparer.Instance).Count(), Is.EqualTo(20), "each record has an object of its own");
        Assert.That(one.GetCounts(), Is.EquivalentTo(new Dictionary<int, long> { [5] = 20 }));
        End(target);
    }

    [Test]
    public async Task ThreadsThatHaveEndedAreNotKept()
    {
        const int Threads = 300;
        using TargetProcess target = TargetProcess.StartTarget("threads", arguments: ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeLatencies times = await process.On("a.out:hot:entry").WithMechanism(ProbeMechanism.Breakpoint).Latency().EnableAsync();
        Assert.That(target.SendAndReadCount($"churn {Threads}", "hot"), Is.EqualTo(Threads));
        await times.DisposeAsync();
        Assert.That((times.Count, times.ReturnCount, times.ThreadCount), Is.EqualTo(((long)Threads, (long)Threads, 0)));
        target.SendLine("quit");
        Assert.That(target.WaitForExit().Code, Is.Zero);
    }

    [Test]
    public async Task BadPointersAreMarkedAndStringsAreRead()
    {
        using TargetProcess target = await StartAsync();
        TracedProcess process = Tracer.Processes[0];
        await using var bad = await process.On("a.out:hot:entry").Record(c => new { Value = c.Read<long>(c.Arg(0)), Text = c.ReadString(c.Arg(0), 8) }).EnableAsync();
        await using ProbeSum guarded = await process.On("a.out:hot:entry").Where(c => c.Arg(0) > 4096 && c.Read<int>(c.Arg(0)) > 0).Count().EnableAsync();
        await using ProbeRecords<string> written = await process.On("libc.so.6:write:entry").Record(c => c.ReadString(c.Arg(1), 7)).EnableAsync();
        target.SendAndReadCount("go 20", "hot");
        End(target);
        int read = 0;
        await foreach (var record in bad.ReadAllAsync())
        {
            Assert.That((record.IsComplete, record.Value.Value, record.Value.Text), Is.EqualTo((false, 0L, (string?)null)));
            read++;
        }

        Assert.That((read, bad.IncompleteCount, bad.LostCount, guarded.Sum), Is.EqualTo((20, 20L, 0L, 0L)));
        List<string> texts = [];
        await foreach (ProbeRecord<string> record in written.ReadAllAsync())
        {
            texts.Add(record.Value);
        }

        Assert.That(texts, Is.EqualTo(new[] { "count h", "exit 7\n" }));
    }

    [Test]
    public async Task RefusalsComeBeforeAnythingIsChanged()
    {
        using TargetProcess target = await StartAsync();
        ProbeQuery query = Tracer.Processes[0].On("a.out:hot:entry");
        Assert.That(async () => await query.Where(c => c.ToString() == "x").Count().EnableAsync(), Throws.ArgumentException.With.Message.Contains("c.ToString()"));
        Assert.That(async () => await query.Record(c => string.Concat("a", c.ReadString(c.Arg(0), 8))).EnableAsync(), Throws.ArgumentException.With.Message.Contains("Concat"));
        Assert.That(async () => await query.Record(c => c.ReadString(c.Arg(0), 4096), 1 << 22).EnableAsync(), Throws.ArgumentException.With.Message.Contains("smaller capacity"));
        Assert.That(
            async () => await query.CountBy(c => new ValueTuple<int, int>((int)c.Arg(0), c.ThreadId)).EnableAsync(), Throws.ArgumentException.With.Message.Contains("key is one number"));
        Assert.That(() => query.Record(c => c.ThreadId, 0), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => query.Histogram(c => c.TimestampNs, 0, long.MaxValue, 1), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => Tracer.Processes[0].On("a.out:hot:return").Latency(), Throws.InvalidOperationException.With.Message.Contains("a.out:hot:entry"));
        Assert.That(async () => await Tracer.Processes[0].On("a.out:nothing:entry").Count().EnableAsync(), Throws.InstanceOf<FastTrapException>());
        TextCheck.AssertClean(target.ProcessId);
        End(target);
    }

    private async Task<TargetProcess> StartAsync()
    {
        TargetProcess target = TargetProcess.StartTarget("execs", null, ["1"]);
        target.SendLine("leader");
        target.ReadLineStarting("second ");
        await Tracer.AttachAsync(target.ProcessId);
        return target;
    }

    private sealed class Sample(int number)
    {
        public int Number { get; } = number;

        public int Value { get; init; }

        public string? Text { get; init; }
    }

    private static void End(TargetProcess target)
    {
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(7, 0)), string.Join('\n', target.Lines));
    }
}
