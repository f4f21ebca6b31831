using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Engine;

/// <summary>Costs, budgets and metrics of a hot probe.</summary>
[TestFixture]
public sealed class BudgetLiveTests : LiveTest
{
    [Test]
    public async Task CostOfAHotProbeIsMeasured()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await using ProbeEnabling hot = await process.EnableAsync("a.out:hot:entry", CountOnly);
        await using ProbeEnabling cold = await process.EnableAsync("a.out:once:entry", CountOnly);
        Assert.That(hot.Cost, Is.EqualTo(new ProbeCost(0, 0, 0)));
        target.SendLine("run");
        target.ReadLineStarting("running");
        ProbeCost cost = default;
        WaitUntil(() => (cost = hot.Cost).ShareOfCpu > 0, "the cost is measured");
        Assert.Multiple(() =>
        {
            Assert.That(cost.NanosecondsPerHit, Is.GreaterThan(100).And.LessThan(1e9));
            Assert.That(cost.HitsPerSecond, Is.GreaterThan(0).And.LessThan(1e7));
            Assert.That(cost.ShareOfCpu, Is.GreaterThan(0).And.LessThanOrEqualTo(1));
            Assert.That(cold.Cost, Is.EqualTo(new ProbeCost(0, 0, 0)));
            Assert.That((hot.BudgetState, hot.SampledShare), Is.EqualTo((BudgetState.Within, 1.0)));
        });
        target.SendAndReadCount("stop", "hot");
        target.SendLine("quit");
        Assert.That(target.WaitForExit().Code, Is.Zero);
    }

    [Test]
    public async Task HotProbeIsDisabledAndTheTargetGoesOnWithCleanText()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling hot = await process.EnableAsync("a.out:hot:entry", new ProbeOptions { Budget = 0.001 });
        ProbeEnabling other = await process.EnableAsync("a.out:once:entry", new ProbeOptions { Budget = 1, Buffered = false });
        target.SendLine("run");
        target.ReadLineStarting("running");

        // The stream ends by itself.
        long read = 0;
        await foreach (ProbeHit hit in hot.ReadAllAsync().WithCancellation(new CancellationTokenSource(Patience).Token))
        {
            Assert.That(hit.Probe.Function, Is.EqualTo("hot"));
            read++;
        }

        Assert.Multiple(() =>
        {
            Assert.That(hot.BudgetState, Is.EqualTo(BudgetState.Disabled));
            Assert.That(read, Is.EqualTo(hot.HitCount - hot.LostHits).And.GreaterThan(0));
            Assert.That(hot.Failures.Select(f => f.Refusal), Is.EqualTo(new[] { ProbeRefusal.OverBudget }));
            Assert.That(hot.Failures[0].Message, Does.Contain("BudgetAction.Sample").And.Contain("hits a second"));
        });
        Assert.That(process.GetProc().Table.Count, Is.EqualTo(1));
        long hits = hot.HitCount;
        target.SendAndReadCount("stop", "hot");
        Assert.That(target.SendAndReadCount("churn 3", "hot"), Is.EqualTo(3));
        Assert.That((hot.HitCount, other.HitCount), Is.EqualTo((hits, 3)));
        await hot.DisposeAsync();
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit().Code, Is.Zero);
    }

    [Test]
    public async Task HotProbeIsSampledAndComesBack()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling hot = await process.EnableAsync(
            "a.out:hot:entry", new ProbeOptions { Budget = 0.02, BudgetAction = BudgetAction.Sample, Buffered = false });
        target.SendLine("run");
        target.ReadLineStarting("running");
        WaitUntil(() => hot.BudgetState == BudgetState.Sampled, "the budget is exceeded");
        long first = hot.HitCount;
        WaitUntil(() => hot.HitCount > first + 50, "hits come again after a rest");
        Assert.That(hot.SampledShare, Is.GreaterThan(0).And.LessThan(1));
        Assert.That(hot.Failures, Is.Empty);

        // Another one at the same instruction sees all hits from now on, rest or not; both are removed in the end.
        ProbeEnabling all = await process.EnableAsync("a.out:hot:0", CountOnly);
        target.SendAndReadCount("stop", "hot");
        long before = all.HitCount;
        Assert.That(target.SendAndReadCount("go 500", "hot"), Is.EqualTo(1000));
        Assert.That(all.HitCount - before, Is.EqualTo(1000));
        await all.DisposeAsync();
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit().Code, Is.Zero);
    }

    [Test]
    public async Task MetricsAreTheCounts()
    {
        ConcurrentDictionary<string, double> seen = new();
        using MeterListener listener = Listen(seen);
        listener.RecordObservableInstruments();
        Dictionary<string, double> before = new(seen);
        double Change(string name) => seen.GetValueOrDefault(name) - before.GetValueOrDefault(name);

        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling bump = await process.EnableAsync("a.out:bump:entry", new ProbeOptions { BufferCapacity = 4 });
        ProbeEnabling twice = await process.EnableAsync("a.out:twice:return", CountOnly);
        Assert.ThrowsAsync<FastTrapException>(async () => await process.EnableAsync("a.out:bump:1", CountOnly));
        target.SendAndReadCount("go 10", "twice");
        listener.RecordObservableInstruments();
        Assert.Multiple(() =>
        {
            Assert.That(Change("fasttrap.hits"), Is.EqualTo(20));
            Assert.That(Change("fasttrap.hits.dropped"), Is.EqualTo(6));
            Assert.That(Change("fasttrap.tracepoints.enabled"), Is.EqualTo(3));
            Assert.That(Change("fasttrap.probes.registered"), Is.EqualTo(2));
            Assert.That(Change("fasttrap.probes.refused"), Is.EqualTo(1));
        });
        await process.DisposeAsync();
        Assert.That(Change("fasttrap.control.stop.duration"), Is.EqualTo(20), "One measurement for each stop.");
        await Tracer.DisposeAsync();
        listener.RecordObservableInstruments();
        Assert.That((Change("fasttrap.hits"), Change("fasttrap.tracepoints.enabled")), Is.EqualTo((20, 0)), "Counts of a tracer that has ended stay; its tracepoints do not.");
    }

    [Test]
    public async Task HitsOfAStandingEnablingAreCountedOnce()
    {
        ConcurrentDictionary<string, double> seen = new();
        using MeterListener listener = Listen(seen);
        listener.RecordObservableInstruments();
        (double Hits, double Dropped) before = (seen.GetValueOrDefault("fasttrap.hits"), seen.GetValueOrDefault("fasttrap.hits.dropped"));
        (double Hits, double Dropped) Change()
        {
            listener.RecordObservableInstruments();
            return (seen.GetValueOrDefault("fasttrap.hits") - before.Hits, seen.GetValueOrDefault("fasttrap.hits.dropped") - before.Dropped);
        }

        using TargetProcess first = TargetProcess.StartTarget("sites");
        using TargetProcess second = TargetProcess.StartTarget("sites");
        TracedProcess one = await Tracer.AttachAsync(first.ProcessId);
        await Tracer.AttachAsync(second.ProcessId);
        StandingEnabling standing = await Tracer.EnableAsync("a.out:twice:entry", new ProbeOptions { BufferCapacity = 4 });
        first.SendAndReadCount("go 10", "twice");
        second.SendAndReadCount("go 7", "twice");
        Assert.That(Change(), Is.EqualTo((17d, 13d)), "One buffer, of four, serves both.");
        await one.DisposeAsync();
        Assert.That(Change(), Is.EqualTo((17d, 13d)), "A member has gone.");
        await standing.DisposeAsync();
        Assert.That(Change(), Is.EqualTo((17d, 13d)), "All have.");
        await Tracer.DisposeAsync();
        Assert.That(Change(), Is.EqualTo((17d, 13d)), "The tracer has.");
    }

    private static MeterListener Listen(ConcurrentDictionary<string, double> seen)
    {
        MeterListener listener = new()
        {
            InstrumentPublished = (instrument, l) =>
            {
                if (instrument.Meter.Name == "FastTrap")
                {
                    l.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, _, _) => seen[instrument.Name] = value);
        listener.SetMeasurementEventCallback<double>((instrument, value, _, _) => seen.AddOrUpdate(instrument.Name, 1, (_, n) => n + 1));
        listener.Start();
        return listener;
    }
}
