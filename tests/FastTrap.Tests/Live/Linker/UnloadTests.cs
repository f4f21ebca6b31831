using FastTrap.Control;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live.Linker;

/// <summary>Libraries that are unloaded with probes in them: their place may be taken by anything.</summary>
[TestFixture]
public sealed class UnloadTests : LinkerTest
{
    [Test]
    public async Task ProbesOfAnUnloadedLibraryAreWithdrawnAndTheirNumberIsFree()
    {
        using PrivateDirectory directory = new("linker");
        using TargetProcess target = StartDlopens(CopyPlugins(directory, 1));
        await using Tracer tracer = new(new TracerOptions { MaximumTracepoints = 2 });
        TracedProcess process = await tracer.AttachAsync(target.ProcessId);
        Recorder recorder = new();
        await WatchAsync(process, recorder);
        List<ProbeEnabling> enablings = [];
        for (int i = 1; i <= 3; i++)
        {
            Do(target, "open 0");
            enablings.Add(await process.EnableAsync("libplugin0.so:plugin_work:*entry", CountOnly));
            Do(target, $"work {i}");
            Do(target, "close");
            Assert.That(enablings[^1].Failures.Select(f => f.Refusal), Is.EqualTo(new[] { ProbeRefusal.Unloaded }));

            // The destructor calls it once more.
            Assert.That(enablings[^1].HitCount, Is.EqualTo(i + 1));
        }

        Do(target, "open 0");
        ProbeEnabling last = await process.EnableAsync("libplugin0.so:plugin_work:entry", CountOnly);
        foreach (ProbeEnabling enabling in enablings)
        {
            await enabling.DisposeAsync();
        }

        Do(target, "work 5");
        Assert.That(last.HitCount, Is.EqualTo(5), "those that are gone do not disturb it");
        ProbeEnabling second = await process.EnableAsync("libplugin0.so:plugin_work:entry", CountOnly);
        Do(target, "work 5");
        Assert.That((last.HitCount, second.HitCount), Is.EqualTo((10L, 5L)));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Quit(target);
    }

    [Test]
    public async Task JumpsGoWithTheirLibraryAndAreNotRestoredIntoMemoryThatIsAnothers([Values] bool disposes)
    {
        using PrivateDirectory directory = new("linker");
        using TargetProcess target = StartDlopens(CopyPlugins(directory, 1));
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        for (int i = 1; i <= 3; i++)
        {
            Do(target, "open 0");
            ProbeSum work = await process.On("libplugin0.so:plugin_work:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
            Do(target, $"work {i}");
            Do(target, "close");

            // The destructor calls it once more.
            Assert.That((work.Count, work.Enablings[0].Failures.Single().Refusal), Is.EqualTo((i + 1L, ProbeRefusal.Unloaded)));
        }

        Do(target, "open 0");
        ProbeSum all = await process.On("libplugin0.so:*:entry").Count().EnableAsync();
        Assert.That(all.Mechanisms.Jump, Is.GreaterThan(0));
        Do(target, "work 3");
        Assert.That(all.Count, Is.GreaterThanOrEqualTo(3));
        Do(target, "reuse");
        if (disposes)
        {
            await all.DisposeAsync();
        }

        await process.DisposeAsync();
        Do(target, "release");
        Quit(target);
    }

    [Test]
    public async Task TrapsAreNotRestoredIntoMemoryThatIsAnothers([Values] bool watched, [Values] bool disposesEnabling)
    {
        using PrivateDirectory directory = new("linker");
        using TargetProcess target = StartDlopens(CopyPlugins(directory, 1));
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        if (watched)
        {
            await WatchAsync(process, new Recorder());
        }

        Do(target, "open 0");
        ProbeEnabling work = await process.EnableAsync("libplugin0.so:*:*", CountOnly);
        Do(target, "work 3");
        Assert.That(work.HitCount, Is.GreaterThan(3));
        Do(target, "reuse");
        if (disposesEnabling)
        {
            await work.DisposeAsync();
        }

        await process.DisposeAsync();
        Do(target, "release");
        Quit(target);
    }

    [Test]
    public async Task SameLibraryInTheSamePlaceIsProbedAnewThoughNobodyWatched()
    {
        using PrivateDirectory directory = new("linker");
        using TargetProcess target = StartDlopens(CopyPlugins(directory, 1));
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Do(target, "open 0");
        ProbeEnabling first = await process.EnableAsync("libplugin0.so:plugin_work:entry", CountOnly);
        ulong place = first.Probes[0].Address;
        Do(target, "close");
        Do(target, "open 0");
        long before = first.HitCount;
        Do(target, "work 4");
        Assert.That(first.HitCount, Is.EqualTo(before), "its trap has gone with the library");
        ProbeEnabling second = await process.EnableAsync("libplugin0.so:plugin_work:entry", CountOnly);
        Assume.That(second.Probes[0].Address, Is.EqualTo(place));
        Do(target, "work 4");
        Assert.That(second.HitCount, Is.EqualTo(4));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Quit(target);
    }

    [Test]
    public async Task ChildrenForkedWhileLibrariesGoLiveOn()
    {
        using PrivateDirectory directory = new("linker");
        using TargetProcess target = StartDlopens(CopyPlugins(directory, 3));
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Recorder recorder = new(async events =>
        {
            foreach (LinkerEvent change in events.Where(e => e.Kind == LinkerEventKind.Added))
            {
                await process.EnableAsync($"{Path.GetFileName(change.Path)}:plugin_work:*", CountOnly);
            }
        });
        await WatchAsync(process, recorder);
        Do(target, "forkstorm 2 40");
        Assert.That(recorder.Failure, Is.Null);
        Assert.That(recorder.Events, Has.Count.EqualTo(161));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
        Quit(target);
    }
}
