using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>Semaphores of static probes: the program itself says what they are, and whether it fired.</summary>
[TestFixture]
public sealed class SemaphoreTests : LiveTest
{
    private const string Guarded = "fasttrap_test*:::guarded";

    private static IEnumerable<object> Variants => TargetVariant.All;

    [TestCaseSource(nameof(Variants))]
    public async Task SemaphoreIsRaisedWhileAProbeIsEnabled(object variantObject)
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt", (TargetVariant)variantObject);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Assert.That(Count(target), Is.Zero);
        ProbeEnabling first = await process.EnableAsync(Guarded, CountOnly);
        Assert.That(Count(target), Is.EqualTo(1));
        ProbeEnabling second = await process.EnableAsync(Guarded, CountOnly);
        ProbeEnabling without = await process.EnableAsync(Guarded, new ProbeOptions { Buffered = false, RaiseSemaphores = false });
        Assert.That(Count(target), Is.EqualTo(1), "once for one tracer");
        Assert.That(target.SendAndReadCount("guarded 10", "guarded"), Is.EqualTo(10));
        await first.DisposeAsync();
        Assert.That(Count(target), Is.EqualTo(1));
        Assert.That(target.SendAndReadCount("guarded 10", "guarded"), Is.EqualTo(10));
        await second.DisposeAsync();
        Assert.That(Count(target), Is.Zero);
        Assert.That(target.SendAndReadCount("guarded 10", "guarded"), Is.Zero);
        Assert.That((first.HitCount, second.HitCount, without.HitCount), Is.EqualTo((10L, 20L, 20L)));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [TestCase(7, 8, 7, Description = "somebody else's count")]
    [TestCase(65534, 65535, 65534)]
    [TestCase(65535, 65535, 65535, Description = "full: left alone")]
    public async Task CountsOfOthersAreKept(int before, int during, int after)
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Assert.That(target.SendAndReadCount($"set {before}", "semaphore"), Is.EqualTo(before));
        await using (await process.EnableAsync(Guarded, CountOnly))
        {
            Assert.That(Count(target), Is.EqualTo(during));
        }

        Assert.That(Count(target), Is.EqualTo(after));
    }

    [Test]
    public async Task NothingIsLoweredBelowZero()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await using (await process.EnableAsync(Guarded, CountOnly))
        {
            Assert.That(target.SendAndReadCount("set 0", "semaphore"), Is.Zero);
        }

        Assert.That(Count(target), Is.Zero);
    }

    [Test]
    public async Task DetachLowersAndTracersOneAfterTheOtherAgree()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        for (int round = 0; round < 5; round++)
        {
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            await process.EnableAsync("fasttrap_test*:::*", CountOnly);
            Assert.That(Count(target), Is.EqualTo(1));
            Assert.That(target.Lines[^2], Is.EqualTo("count shared 1"));
            await process.DisposeAsync();
            Assert.That(Count(target), Is.Zero);
            Assert.That(target.Lines[^2], Is.EqualTo("count shared 0"));
        }
    }

    [Test]
    public async Task TheKernelRaisesTheSameOne()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling one = await process.EnableAsync("fasttrap_test*:::shared-one", CountOnly);
        using (UprobeOracle two = UprobeOracle.AttachToNote(target.ProcessId, target.Path, "shared__two"))
        {
            Assert.That(Shared(target), Is.EqualTo(2));
            Assert.That(target.SendAndReadCount("guarded 10", "one"), Is.EqualTo(10));
            await one.DisposeAsync();
            Assert.That(Shared(target), Is.EqualTo(1));
            Assert.That(target.SendAndReadCount("guarded 10", "one"), Is.EqualTo(10), "the kernel's count keeps the program firing");
            one = await process.EnableAsync("fasttrap_test*:::shared-one", CountOnly);
            Assert.That(Shared(target), Is.EqualTo(2));
            Assert.That(two.Count, Is.EqualTo(20));
        }

        Assert.That(Shared(target), Is.EqualTo(1));
        await one.DisposeAsync();
        Assert.That(Shared(target), Is.Zero);
    }

    [Test]
    public async Task ForkChildrenHaveCleanCounts()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await using ProbeEnabling enabling = await process.EnableAsync(Guarded, CountOnly);
        Assert.That(target.SendAndReadCount("forks 100", "wrong"), Is.Zero);
        Assert.That(enabling.HitCount, Is.EqualTo(100), "the parent's; children are not followed");
        Assert.That(Count(target), Is.EqualTo(1));
    }

    [Test]
    public async Task ForkChildrenHaveCleanCountsWhileTheyChange()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        int changes = 0;
        for (int round = 0; round < 50 && changes <= 5; round++)
        {
            target.SendLine("forks 300");
            Task<long> forks = Task.Run(() => target.ReadCount("wrong"));
            while (!forks.IsCompleted)
            {
                await using (await process.EnableAsync(Guarded, CountOnly))
                {
                    changes++;
                }
            }

            Assert.That(await forks, Is.Zero);
        }

        Assert.That(changes, Is.GreaterThan(5));
        Assert.That(Count(target), Is.Zero);
        TextCheck.AssertClean(target.ProcessId);
    }

    [Test]
    public async Task ExecTakesTheCountsWithIt()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling before = await process.EnableAsync(Guarded, CountOnly);
        target.SendLine("exec");
        target.WaitReady();
        Assert.That(Count(target), Is.Zero);
        await before.DisposeAsync();
        Assert.That(Count(target), Is.Zero);
        await using ProbeEnabling after = await process.EnableAsync(Guarded, CountOnly);
        Assert.That(target.SendAndReadCount("guarded 10", "guarded"), Is.EqualTo(10));
        Assert.That(after.HitCount, Is.EqualTo(10));
    }

    [TestCase("wait", 15, TestName = "SigtermLowersTheSemaphore")]
    [TestCase("throw", 0, TestName = "UnhandledExceptionLowersTheSemaphore")]
    [TestCase("exit", 0, TestName = "ExitLowersTheSemaphore")]
    public void EndOfTheTracerLowers(string end, int signal)
    {
        using PrivateDirectory directory = new("semaphore");
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        using TargetProcess tracer = SeparateTracer.Start(directory, ["busy", $"{target.ProcessId}", end, Guarded]);
        TextCheck.WaitForProbes(target, tracer);

        Assert.That(Count(target), Is.EqualTo(1));
        // The tracer may end in the middle of it.
        Assert.That(target.SendAndReadCount("guarded 300", "guarded"), Is.InRange(200, 300), () => tracer.Errors);
        Assert.That(tracer.ReadLine(), Is.EqualTo("busy"), () => tracer.Errors);
        if (signal != 0)
        {
            Assert.That(tracer.Signal(signal), Is.True);
        }

        tracer.WaitForExit();
        Assert.That(Count(target), Is.Zero);
        Assert.That(target.SendAndReadCount("guarded 10", "guarded"), Is.Zero);
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    private static long Count(TargetProcess target) => target.SendAndReadCount("semaphores", "semaphore");

    private static long Shared(TargetProcess target)
    {
        Count(target);
        return target.GetCount("shared");
    }
}
