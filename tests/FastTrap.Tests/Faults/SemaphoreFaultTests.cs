using FastTrap.Native;
using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Faults;

/// <summary>The semaphore of a static probe cannot be read or written at one moment.</summary>
[TestFixture]
[NonParallelizable]
public sealed class SemaphoreFaultTests
{
    private const string Guarded = "fasttrap_test*:::guarded";

    [TestCase(nameof(IPlatform.WriteMemory))]
    public async Task AProbeWhoseSemaphoreCannotBeRaisedIsRefused(string method)
    {
        FaultyPlatform platform = new();
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        await using Tracer tracer = new(null, platform);
        TracedProcess process = await tracer.AttachAsync(target.ProcessId);
        platform.Set(new Fault(method, FaultKind.Error, Errno.EFAULT, 1), 0);
        FastTrapException refused = Assert.ThrowsAsync<FastTrapException>(() => process.EnableAsync(Guarded))!;
        Assert.That(platform.IsReached, Is.True);
        Assert.That(refused.Message, Does.Contain(nameof(ProbeOptions.RaiseSemaphores)));
        platform.Set(null, 0);
        TextCheck.AssertClean(target.ProcessId);
        Assert.That(target.SendAndReadCount("semaphores", "semaphore"), Is.Zero);
        await using (await process.EnableAsync(Guarded))
        {
            Assert.That(target.SendAndReadCount("semaphores", "semaphore"), Is.EqualTo(1));
            Assert.That(target.SendAndReadCount("guarded 3", "guarded"), Is.EqualTo(3));
        }

        Assert.That(target.SendAndReadCount("semaphores", "semaphore"), Is.Zero);
    }

    [TestCase(nameof(IPlatform.WriteMemory))]
    [TestCase(nameof(IPlatform.ReadMemory))]
    public async Task ASemaphoreIsLoweredAtTheSecondAttempt(string method)
    {
        FaultyPlatform platform = new();
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        await using Tracer tracer = new(null, platform);
        TracedProcess process = await tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync(Guarded);
        platform.Set(new Fault(method, FaultKind.Error, Errno.EFAULT, 1), 0);
        await enabling.DisposeAsync();
        Assert.That(platform.IsReached, Is.True);
        platform.Set(null, 0);
        Assert.That(target.SendAndReadCount("semaphores", "semaphore"), Is.Zero);
        TextCheck.AssertClean(target.ProcessId);
    }
}
