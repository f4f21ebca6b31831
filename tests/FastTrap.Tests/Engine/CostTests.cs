using FastTrap.Engine;

namespace FastTrap.Tests.Engine;

/// <summary>What hits cost, and what a budget makes of it, on a clock of our own.</summary>
[TestFixture]
public sealed class CostTests
{
    /// <summary>Ticks in a second: microseconds.</summary>
    private const long Frequency = 1_000_000;

    [Test]
    public void CostIsThatOfTheLastSecond()
    {
        CostMeter meter = new(Frequency);
        const long Begin = 50 * Frequency;
        meter.Begin(Begin);
        Assert.That(meter.Read(Begin), Is.EqualTo(new ProbeCost(0, 0, 0)));

        // Two seconds with 1,000 stops of 20 us each second.
        long now = Begin;
        for (int i = 0; i < 2000; i++)
        {
            now += 1000;
            meter.Add(now - 20, now);
        }

        ProbeCost cost = meter.Read(now);
        Assert.That(cost.HitsPerSecond, Is.EqualTo(1000).Within(120));
        Assert.That(cost.NanosecondsPerHit, Is.EqualTo(20_000).Within(1));
        Assert.That(cost.ShareOfCpu, Is.EqualTo(0.02).Within(0.0025));

        // A second later nothing happens any more; what one cost is still known.
        cost = meter.Read(now + (2 * Frequency));
        Assert.That(cost, Is.EqualTo(new ProbeCost(0, 20_000, 0)));
        Assert.That(meter.Stops, Is.EqualTo(2000));
    }

    [Test]
    public void ManyStopsAreTimedNowAndThenAndTheSumIsThatOfAll()
    {
        CostMeter meter = new(Frequency);
        meter.Begin(Frequency);
        long now = Frequency;
        int timed = 0;
        for (int i = 0; i < 100_000; i++)
        {
            // Dear and cheap ones in turn.
            long start = now + 2;
            now = start + (i % 2 == 0 ? 3 : 7);
            int weight = meter.WeightOf(start);
            timed += weight == 0 ? 0 : 1;
            meter.Add(start, weight == 0 ? start : now, weight);
        }

        Assert.That(timed, Is.EqualTo(12_500).Within(1000));
        Assert.That(meter.Stops, Is.EqualTo(100_000));
        Assert.That(meter.Read(now).NanosecondsPerHit, Is.EqualTo(5000).Within(250));

        // Rare ones are timed all.
        for (int i = 0; i < 100; i++)
        {
            now += 2000;
            Assert.That(meter.WeightOf(now), Is.EqualTo(1));
        }
    }

    [Test]
    public void YoungEnablingIsMeasuredOverItsOwnTime()
    {
        CostMeter meter = new(Frequency);
        meter.Begin(5 * Frequency);
        meter.Add((5 * Frequency) + 100, (5 * Frequency) + 200);
        ProbeCost cost = meter.Read((5 * Frequency) + 1000);
        Assert.That(cost.HitsPerSecond, Is.EqualTo(1000).Within(1e-6));
        Assert.That(cost.ShareOfCpu, Is.EqualTo(0.1).Within(1e-9));
    }

    [Test]
    public void WithinItsBudgetNothingHappens([Values] BudgetAction action)
    {
        BudgetGovernor governor = new(0.02, action, Frequency);
        long now = Frequency;
        governor.Begin(now, 1);
        for (int i = 0; i < 10_000; i++)
        {
            now += 1000;
            Assert.That(governor.Charge(now - 19, now), Is.EqualTo(BudgetVerdict.Within));
        }

        Assert.That(governor.SampledShare(now), Is.EqualTo(1));
    }

    [Test]
    public void OverItsBudgetItIsDisabledWithinASecond()
    {
        BudgetGovernor governor = new(0.02, BudgetAction.Disable, Frequency);
        long now = Frequency;
        governor.Begin(now, 1);
        int stops = 0;
        BudgetVerdict verdict;
        do
        {
            now += 1000;
            stops++;
            verdict = governor.Charge(now - 100, now);
        }
        while (verdict == BudgetVerdict.Within && stops < 10_000);
        Assert.That(verdict, Is.EqualTo(BudgetVerdict.Disable));
        Assert.That(stops, Is.EqualTo(201), "20 ms of one second, in stops of 100 us.");
        Assert.That(governor.Charge(now, now + 100_000), Is.EqualTo(BudgetVerdict.Within), "It says so once.");
    }

    [Test]
    public void OneLongStopBelongsToTheWindowItIsIn()
    {
        BudgetGovernor governor = new(0.5, BudgetAction.Disable, Frequency);
        governor.Begin(Frequency, 1);
        Assert.That(governor.Charge(Frequency + 100, Frequency + 400_000), Is.EqualTo(BudgetVerdict.Within));
        Assert.That(governor.Charge((2 * Frequency) + 1, (2 * Frequency) + 400_000), Is.EqualTo(BudgetVerdict.Within), "A new window has begun.");
        Assert.That(governor.Charge((2 * Frequency) + 400_001, (2 * Frequency) + 600_000), Is.EqualTo(BudgetVerdict.Disable));
    }

    [TestCase(0.01)]
    [TestCase(0.1)]
    [TestCase(0.5)]
    public void SampledShareOfTimeIsTheBudget(double budget)
    {
        BudgetGovernor governor = new(budget, BudgetAction.Sample, Frequency);
        const long Begin = Frequency;
        long now = Begin;
        long used = 0;
        int rests = 0;
        governor.Begin(now, 1);
        while (now < Begin + (60 * Frequency))
        {
            // Always hit again: 5 us stopped, 1 us running.
            long start = now + 1;
            now += 6;
            used += now - start;
            if (governor.Charge(start, now) == BudgetVerdict.Rest)
            {
                rests++;
                now += governor.RestTicks;
                governor.EndRest(now);
            }
        }

        double share = (double)used / (now - Begin);
        Assert.That(share, Is.LessThanOrEqualTo(budget * 1.01).And.GreaterThan(budget * 0.9));
        Assert.That(rests, Is.GreaterThan(100));
        Assert.That(governor.SampledShare(now), Is.EqualTo(share * 6 / 5).Within(0.02));
        Assert.That(governor.IsResting, Is.False);
    }

    [Test]
    public void ManyProbesAreTakenOutAndPutInLessOften()
    {
        static long RestOf(int probes)
        {
            BudgetGovernor governor = new(0.1, BudgetAction.Sample, Frequency);
            governor.Begin(Frequency, probes);
            long now = Frequency;
            while (governor.Charge(now, now + 5) == BudgetVerdict.Within)
            {
                now += 5;
            }

            return governor.RestTicks;
        }

        Assert.That(RestOf(20_000), Is.GreaterThan(10 * RestOf(1)));
    }
}
