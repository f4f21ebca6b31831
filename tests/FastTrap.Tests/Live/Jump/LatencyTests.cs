using System.Globalization;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Latencies and counts by key, by each mechanism: calls that are left in all ways are told apart, and times lie between those that the target has measured in its calls and around them.</summary>
[TestFixture]
public sealed class LatencyTests : LiveTest
{
    private const int Threads = 4;
    private const long Depth = 4096;

    [TestCase(ProbeMechanism.Jump, 2, 900)]
    [TestCase(ProbeMechanism.Jump, 0, 300)]
    [TestCase(ProbeMechanism.Breakpoint, 2, 20)]
    public async Task EveryReturnFindsItsEntry(ProbeMechanism mechanism, int optimization, int rounds)
    {
        using TargetProcess target = Start(optimization);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeLatencies times = await process.On("a.out:timed_*:entry").WithMechanism(mechanism == ProbeMechanism.Jump ? ProbeMechanism.Auto : mechanism).Latency().EnableAsync();
        TestContext.Out.WriteLine($"{times.Mechanisms.Jump} jumps, {times.Mechanisms.Breakpoint} breakpoints: {string.Join("; ", times.Mechanisms.Reasons.Keys)}");
        Assert.That(times.Mechanisms.Jump > 10, Is.EqualTo(mechanism == ProbeMechanism.Jump));
        for (int round = 1; round <= 2; round++)
        {
            (long entered, long left, _, _) = Go(target, rounds);
            long spins = SpinsOf(rounds);
            Assert.That((times.Count, times.ReturnCount, times.LostCount), Is.EqualTo(((entered + spins) * round, (left + spins) * round, 0L)));
        }

        if (optimization == 2 && mechanism == ProbeMechanism.Jump)
        {
            // Each round leaves two calls by a jump out of a handler, which stay: at last there is no room.
            (long more, long left, long before) = (times.Count, times.ReturnCount, times.LostCount);
            (long entered, long returned, _, _) = Go(target, 2 * rounds);
            Assert.That(times.Count - more, Is.EqualTo(entered + SpinsOf(2 * rounds)));
            Assert.That((times.LostCount - before, times.LostCount % Depth), Is.EqualTo((Threads * Depth, 0L)));
            Assert.That(times.ReturnCount - left - SpinsOf(2 * rounds), Is.InRange(returned - (Threads * 30), returned));
        }

        Assert.That(times.GetSteps().Sum(s => s.Count), Is.EqualTo(times.ReturnCount));
        await End(process, target);
    }

    [TestCase(ProbeMechanism.Jump)]
    [TestCase(ProbeMechanism.Breakpoint)]
    public async Task TimesAreThoseThatTheTargetMeasures(ProbeMechanism mechanism)
    {
        const int Rounds = 64;
        using TargetProcess target = Start(2);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeLatencies times = await process.On("a.out:timed_spin:entry").WithMechanism(mechanism).Latency().EnableAsync();
        (_, _, long inside, long around) = Go(target, Rounds);
        Assert.That(times.ReturnCount, Is.EqualTo(SpinsOf(Rounds)));

        // The rate of the processor's counter is known to a few parts in ten thousand soon after the start.
        Assert.That(times.TotalNs, Is.InRange(inside * 0.998, around * 1.002));
        Assert.That(times.TotalNs, Is.InRange(times.MinimumNs!.Value * times.ReturnCount, times.MaximumNs!.Value * times.ReturnCount));
        IReadOnlyList<HistogramStep> steps = times.GetSteps();
        Assert.That((times.MinimumNs >= steps[0].From * 0.998, times.MaximumNs <= steps[^1].To * 1.002), Is.EqualTo((true, true)));
        await End(process, target);
    }

    /// <summary>A handler at the returns makes breakpoints of them, and at the entries, and comes and goes while the target runs: entries and returns are armed by different mechanisms, and change it.</summary>
    [TestCase("return")]
    [TestCase("entry")]
    public async Task EntriesAndReturnsMayBeArmedByDifferentMechanisms(string other)
    {
        const int Rounds = 100;
        using TargetProcess target = Start(2);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeLatencies times = await process.On("a.out:timed_*:entry").Where(c => c.Arg(0) != 5).Latency().EnableAsync();
        ProbeLatencies all = await process.On("a.out:timed_recurse:entry").WithMechanism(ProbeMechanism.Breakpoint).Latency().EnableAsync();
        await using ProbeEnabling handler = await process.EnableAsync($"a.out:timed_jumps:{other}", new ProbeOptions { OnHit = static (in ProbeContext _) => { }, Buffered = false });
        ProbeEnabling second = await process.EnableAsync($"a.out:timed_leaf:{other}", new ProbeOptions { OnHit = static (in ProbeContext _) => { }, Buffered = false });
        (long entered, _, _, _) = Go(target, Rounds);
        Assert.That(times.Mechanisms.Jump, Is.Positive);
        Assert.That(times.Mechanisms.Breakpoint, Is.Positive);
        Task running = Task.Run(() => Go(target, Rounds));
        await second.DisposeAsync();
        await all.DisposeAsync();
        await running;
        (long timed, long returned) = (times.Count, times.ReturnCount);
        Assert.That((timed < entered * 2, times.LostCount), Is.EqualTo((true, 0L)));
        await times.DisposeAsync();

        // The same calls, by the interpreter alone.
        ProbeLatencies again = await process.On("a.out:timed_*:entry").Where(c => c.Arg(0) != 5).WithMechanism(ProbeMechanism.Breakpoint).Latency().EnableAsync();
        Go(target, Rounds);
        Assert.That((timed, returned), Is.EqualTo((again.Count * 2, again.ReturnCount * 2)));
        await End(process, target);
    }

    [TestCase(ProbeMechanism.Jump)]
    [TestCase(ProbeMechanism.Breakpoint)]
    public async Task KeysOfManyThreadsAreCountedTogether(ProbeMechanism mechanism)
    {
        const int Calls = 3000;
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["8"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeCounts<int> keys = await process.On("a.out:hot:entry").WithMechanism(mechanism).CountBy(c => (int)c.Arg(0) % 100 - 50).EnableAsync();
        Assert.That(keys.Mechanisms.Jump, Is.EqualTo(mechanism == ProbeMechanism.Jump ? 1 : 0));
        target.SendAndReadCount($"go {Calls}", "hot");
        Assert.That(keys.GetCounts(), Is.EquivalentTo(Enumerable.Range(-50, 100).ToDictionary(k => k, _ => Calls / 100 * 8L)));
        Assert.That((keys.Count, keys.OtherCount, keys.IncompleteCount), Is.EqualTo((Calls * 8L, 0L, 0L)));

        await keys.DisposeAsync();

        // One key for each table: of each thread, or of the tracer.
        ProbeCounts<int> threads = await process.On("a.out:hot:entry").WithMechanism(mechanism).CountBy(c => c.ThreadId, capacity: 1).EnableAsync();
        target.SendAndReadCount($"go {Calls}", "hot");
        int tables = mechanism == ProbeMechanism.Jump ? 8 : 1;
        Assert.That((threads.GetCounts().Count, threads.OtherCount), Is.EqualTo((tables, (8 - tables) * (long)Calls)));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    private static TargetProcess Start(int optimization) => TargetProcess.StartTarget("latencies", new TargetVariant(Optimization: optimization, Flags: "-pthread"), [$"{Threads}"]);

    private static long SpinsOf(int rounds) => (rounds + 15) / 16 * (long)Threads;

    private static (long Entered, long Left, long Inside, long Around) Go(TargetProcess target, int rounds)
    {
        target.SendLine($"go {rounds}");
        long around = Number("around ");
        long inside = Number("inside ");
        long left = Number("leave ");
        return (Number("enter "), left, inside, around);

        long Number(string name) => long.Parse(target.ReadLineStarting(name)[name.Length..], CultureInfo.InvariantCulture);
    }

    private static async Task End(TracedProcess process, TargetProcess target)
    {
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }
}
