using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Entry, return and offset probes on functions of all shapes; the target's own counts are the oracle.</summary>
[TestFixture]
public sealed class FunctionProbeTests : LiveTest
{
    private const int Threads = 4;
    private const int Loops = 200;

    private static IEnumerable<object> Variants => TargetVariant.All;

    [TestCaseSource(nameof(Variants))]
    public async Task CountsOfEntriesAndReturnsAreTheTargets(object variantObject)
    {
        TargetVariant variant = (TargetVariant)variantObject;
        string[] arguments = [$"{Threads}", $"{Loops}"];
        IReadOnlyList<string> alone = RunAlone("calls", variant, arguments);
        using TargetProcess target = TargetProcess.StartTarget("calls", variant, arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        string[] functions = [.. alone.Where(l => l.StartsWith("count ", StringComparison.Ordinal)).Select(l => l.Split(' ')[1])];
        ProbeRequest[] requests = [.. functions.SelectMany(f => new[] { new ProbeRequest($"a.out:{f}:entry", CountOnly), new ProbeRequest($"a.out:{f}:return", CountOnly) })];
        IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync(requests);

        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();

        Assert.Multiple(() =>
        {
            for (int i = 0; i < functions.Length; i++)
            {
                long own = target.GetCount(functions[i]);
                Assert.That(own, Is.GreaterThan(0), functions[i]);
                Assert.That(enablings[2 * i].HitCount, Is.EqualTo(own), $"{functions[i]}:entry");
                Assert.That(enablings[(2 * i) + 1].HitCount, Is.EqualTo(own), $"{functions[i]}:return");
            }
        });
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
        Assert.That(Comparable(target.Lines), Is.EqualTo(alone));
    }

    [Test]
    public async Task ArgumentsAndReturnValuesAreThoseOfTheSource()
    {
        using TargetProcess target = TargetProcess.StartTarget("calls", null, ["1", "20"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling entry = await process.EnableAsync("a.out:args10:entry", new ProbeOptions { ArgumentCount = 10 });
        ProbeEnabling exit = await process.EnableAsync("a.out:args6:return");
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();

        List<ProbeHit> entries = await ReadAll(entry);
        List<ProbeHit> returns = await ReadAll(exit);
        Assert.That(entries, Has.Count.EqualTo(20));
        Assert.That(returns, Has.Count.EqualTo(20));
        for (int n = 0; n < 20; n++)
        {
            ulong[] arguments = [.. Enumerable.Range(0, entries[n].Arguments.Count).Select(i => entries[n].Arguments[i])];
            Assert.That(arguments, Is.EqualTo(new ulong[] { (ulong)n, 2, 3, 4, 5, 6, 7, 8, 9, 10 }));
            Assert.That(returns[n].ReturnValue, Is.EqualTo((ulong)(n + 4 + 9 + 16 + 25 + 36)));
            Assert.That(returns[n].Arguments[0], Is.GreaterThan(0).And.LessThan(returns[n].Probe.FunctionLength));
            Assert.That(entries[n].ThreadId, Is.EqualTo(returns[n].ThreadId));
        }

        Assert.That(entries.Select(h => h.TimestampNs), Is.Ordered);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task PredicateHandlerAndStreamSeeTheSameHits()
    {
        using TargetProcess target = TargetProcess.StartTarget("calls", null, ["1", "100"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        List<ulong> handled = [];
        ProbeEnabling odd = await process.EnableAsync("pid*:a.out:args4:entry", new ProbeOptions
        {
            Predicate = static (in ProbeContext c) => c.GetArgument(0) % 2 == 1,
            OnHit = (in ProbeContext c) => handled.Add(c.GetArgument(0)),
            Buffered = true,
        });
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await odd.DisposeAsync();
        List<ProbeHit> streamed = await ReadAll(odd);
        ulong[] expected = [.. Enumerable.Range(0, 100).Where(n => n % 2 == 1).Select(n => (ulong)n)];
        Assert.That(handled, Is.EqualTo(expected));
        Assert.That(streamed.Select(h => h.Arguments[0]), Is.EqualTo(expected));
        Assert.That(odd.HitCount, Is.EqualTo(50));
        Assert.That(odd.LostHits, Is.Zero);
    }

    [Test]
    public async Task FullBufferDropsAndCountsExactly()
    {
        using TargetProcess target = TargetProcess.StartTarget("calls", null, ["1", "100"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:args4:entry", new ProbeOptions { BufferCapacity = 16 });
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await enabling.DisposeAsync();
        List<ProbeHit> read = await ReadAll(enabling);
        Assert.That(read.Select(h => h.Arguments[0]), Is.EqualTo(Enumerable.Range(0, 16).Select(n => (ulong)n)));
        Assert.That(enabling.LostHits, Is.EqualTo(84));
        Assert.That(enabling.HitCount, Is.EqualTo(100));
    }

    [Test]
    public async Task HandlerChangesArgumentsAndReturnValues()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["1"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        List<ulong> results = [];
        await using ProbeEnabling entry = await process.EnableAsync("a.out:hot:entry", new ProbeOptions
        {
            OnHit = static (in ProbeContext c) => c.Registers[X64Register.Rdi] = 100,
        });
        await using ProbeEnabling exit = await process.EnableAsync("a.out:hot:return", new ProbeOptions
        {
            OnHit = (in ProbeContext c) => results.Add(c.ReturnValue),
        });
        target.SendLine("go 3");
        Assert.That(target.ReadCount("hot"), Is.EqualTo(3));
        await process.DisposeAsync();
        Assert.That(results, Is.EqualTo(new ulong[] { 201, 201, 201 }));
    }

    [Test]
    public async Task ThrowingHandlerIsCountedAndHarmsNobody()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:hot:entry", new ProbeOptions
        {
            OnHit = static (in ProbeContext c) => throw new InvalidDataException("on purpose"),
        });
        target.SendLine("go 5");
        Assert.That(target.ReadCount("hot"), Is.EqualTo(10));
        await enabling.DisposeAsync();
        Assert.That(enabling.HandlerErrors, Is.EqualTo(10));
        Assert.That(enabling.LastHandlerException, Is.TypeOf<InvalidDataException>());
        target.SendLine("go 5");
        Assert.That(target.ReadCount("hot"), Is.EqualTo(10));
    }

    [Test]
    public async Task SeveralProbesOnOneInstructionAllFireAndGoOneByOne()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling first = await process.EnableAsync("a.out:hot:entry", CountOnly);
        ProbeEnabling second = await process.EnableAsync("a.out:hot:entry", CountOnly);
        ProbeEnabling zero = await process.EnableAsync("a.out:hot:0", CountOnly);
        target.SendLine("go 10");
        target.ReadCount("hot");
        await first.DisposeAsync();
        target.SendLine("go 10");
        target.ReadCount("hot");
        await second.DisposeAsync();
        target.SendLine("go 10");
        target.ReadCount("hot");
        await zero.DisposeAsync();
        target.SendLine("go 10");
        target.ReadCount("hot");
        Assert.That((first.HitCount, second.HitCount, zero.HitCount), Is.EqualTo((20L, 40L, 60L)));
        TextCheck.AssertClean(target.ProcessId);
    }

    [Test]
    public async Task StackNamesTheCallers()
    {
        using TargetProcess target = TargetProcess.StartTarget("calls", new TargetVariant(TargetLink.Pie, 0), ["1", "1"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:recurse:entry", new ProbeOptions { StackDepth = 16, BufferCapacity = 64 });
        ProbeEnabling target2 = await process.EnableAsync("a.out:tail_target:entry", new ProbeOptions { StackDepth = 16, BufferCapacity = 64 });
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        List<string> names = [];
        await target2.DisposeAsync();
        await foreach (ProbeHit hit in target2.ReadAllAsync())
        {
            foreach (ulong address in hit.Stack.ToArray())
            {
                names.Add(process.TryResolve(address, out CodeLocation location) ? location.Function ?? "?" : "?");
            }
        }

        Assert.That(names.Take(3), Is.EqualTo(new[] { "tail_target", "tail_caller", "work" }));
        await enabling.DisposeAsync();
    }

    [Test]
    public async Task ListingNamesProbesWithoutTouchingTheTarget()
    {
        using TargetProcess target = TargetProcess.StartTarget("calls", null, ["1", "1"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        IReadOnlyList<ProbeInfo> probes = await process.ListAsync("a.out:args?:entry");
        Assert.That(probes.Select(p => p.Function).Order(), Is.EqualTo(Enumerable.Range(0, 10).Select(i => $"args{i}")));
        IReadOnlyList<ProbeInfo> all = await process.ListAsync("a.out:args2:");
        Assert.That(all.Select(p => p.Name).Take(3), Is.EqualTo(new[] { "entry", "return", "0" }));
        TextCheck.AssertClean(target.ProcessId);
    }

    private static async Task<List<ProbeHit>> ReadAll(ProbeEnabling enabling)
    {
        List<ProbeHit> hits = [];
        await foreach (ProbeHit hit in enabling.ReadAllAsync())
        {
            hits.Add(hit);
        }

        return hits;
    }
}
