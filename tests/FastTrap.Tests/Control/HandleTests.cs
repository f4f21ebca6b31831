using System.Globalization;
using FastTrap.Control.Cache;
using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Control;

/// <summary>Handles are shared and counted: for control, and read-only ones, which are cached.</summary>
[TestFixture]
public sealed class HandleTests : LiveTest
{
    [Test]
    public async Task AttachedTwiceItIsReleasedWithTheSecondDisposal()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess[] all = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Tracer.AttachAsync(target.ProcessId)));
        Assert.That(all.Distinct().Count(), Is.EqualTo(1));
        ProbeEnabling enabling = await all[0].EnableAsync("a.out:hot:entry", CountOnly);
        foreach (TracedProcess process in all.Skip(1))
        {
            await process.DisposeAsync();
            Assert.That(process.Completion.IsCompleted, Is.False);
        }

        Assert.That(target.SendAndReadCount("go 5", "hot"), Is.EqualTo(10));
        Assert.That(enabling.HitCount, Is.EqualTo(10));
        await all[0].DisposeAsync();
        Assert.That(await all[0].Completion, Is.EqualTo(new ProcessExit(ProcessExitKind.Detached, 0, 0)));
        Assert.That(File.ReadAllLines($"/proc/{target.ProcessId}/status"), Has.Member("TracerPid:\t0"));

        TracedProcess again = await Tracer.AttachAsync(target.ProcessId);
        Assert.That(again, Is.Not.SameAs(all[0]));
        await Tracer.AttachAsync(target.ProcessId);

        // The tracer's own disposal asks nobody.
        await Tracer.DisposeAsync();
        Assert.That(again.Completion.IsCompleted);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task ViewReadsWithoutTracing()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        using ProcessView view = Tracer.OpenReadOnly(target.ProcessId);
        ProbeInfo hot = (await view.ListAsync("a.out:hot:entry")).Single();
        Assert.That(hot.Address, Is.EqualTo(LoadBias(target) + ElfTools.Function(target.Path, "hot").Address));
        Assert.That(view.TryResolve(hot.Address, out CodeLocation location) && location.Function == "hot");
        byte[] code = new byte[16];
        Assert.That(view.ReadMemory(hot.Address, code), Is.EqualTo(code.Length));
        Assert.That(File.ReadAllLines($"/proc/{target.ProcessId}/status"), Has.Member("TracerPid:\t0"));

        // Attached to, the same bytes are read through that, traps or not; the view is stale.
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await process.EnableAsync("a.out:hot:entry", CountOnly);
        Assert.That(view.IsStale);
        FastTrapException? error = Assert.Throws<FastTrapException>(() => view.ReadMemory(hot.Address, new byte[16]));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.Stale));
        Assert.ThrowsAsync<FastTrapException>(() => view.ListAsync("a.out:hot:entry"));
        ProcessView through = Tracer.OpenReadOnly(target.ProcessId);
        byte[] again = new byte[16];
        Assert.That(through.ReadMemory(hot.Address, again), Is.EqualTo(again.Length));
        Assert.That(again, Is.EqualTo(code));
        await process.DisposeAsync();
        Assert.That(through.IsStale);
        through.Dispose();

        using ProcessView fresh = Tracer.OpenReadOnly(target.ProcessId);
        Assert.That(fresh.ReadMemory(hot.Address, again), Is.EqualTo(again.Length));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
        Assert.That(fresh.IsStale);
        Assert.Throws<FastTrapException>(() => fresh.ReadMemory(hot.Address, again));
        fresh.Dispose();
        Assert.Throws<ObjectDisposedException>(() => fresh.ReadMemory(hot.Address, again));
        FastTrapException? gone = Assert.Throws<FastTrapException>(() => Tracer.OpenReadOnly(target.ProcessId));
        Assert.That(gone!.Error, Is.EqualTo(FastTrapError.NoSuchProcess).Or.EqualTo(FastTrapError.Zombie));
    }

    [Test]
    public void ViewOfAProcessThatAnotherTraces()
    {
        using TargetProcess target = TargetProcess.StartTarget("states", null, ["traced"]);
        int child = int.Parse(target.ReadLineStarting("child ").Split(' ')[1], CultureInfo.InvariantCulture);
        using ProcessView view = Tracer.OpenReadOnly(child);
        Assert.That(view.IsStale, Is.False);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public void IdleHandlesAreKeptUpToALimit()
    {
        HandleCache<string> cache = new(2);
        CachedHandle<string> one = cache.Add(1, 10, "one");
        CachedHandle<string> two = cache.Add(2, 20, "two");
        CachedHandle<string> three = cache.Add(3, 30, "three");
        Assert.That(cache.Count, Is.EqualTo(3), "what is in use is not dropped");
        cache.Release(one);
        Assert.That(one.IsStale, "the first to be idle goes while there are too many");
        cache.Release(two);
        cache.Release(three);
        Assert.That(cache.Count, Is.EqualTo(2));
        Assert.That(cache.Find(2, 20), Is.SameAs(two));
        cache.Release(two);

        // Number 3 is now the one that was used least recently.
        cache.Release(cache.Add(4, 40, "four"));
        Assert.That(three.IsStale);
        Assert.That(two.IsStale, Is.False);
        Assert.That(cache.Find(3, 30), Is.Null);
    }

    [Test]
    public void HandleOfAFormerProcessIsNotFound()
    {
        HandleCache<string> cache = new(2);
        CachedHandle<string> old = cache.Add(1, 10, "old");
        Assert.That(cache.Find(1, 11), Is.Null);
        Assert.That(old.IsStale);
        CachedHandle<string> young = cache.Add(1, 11, "young");
        cache.Release(old);
        Assert.That(cache.Find(1, 11), Is.SameAs(young));
        Assert.That(cache.Add(1, 11, "late"), Is.SameAs(young), "whoever was faster counts");
        Assert.That(young.References, Is.EqualTo(3));
        cache.MakeStale(1);
        Assert.That(young.IsStale);
        Assert.That(cache.Count, Is.Zero);
        for (int i = 0; i < 3; i++)
        {
            cache.Release(young);
        }
    }

    private static ulong LoadBias(TargetProcess target) =>
        File.ReadLines($"/proc/{target.ProcessId}/maps")
            .Where(line => line.EndsWith(target.Path, StringComparison.Ordinal))
            .Select(line => ulong.Parse(line.AsSpan(0, line.IndexOf('-')), NumberStyles.HexNumber, CultureInfo.InvariantCulture))
            .Min();
}
