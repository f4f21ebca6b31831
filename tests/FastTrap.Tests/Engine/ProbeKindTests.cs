using FastTrap.Engine;
using FastTrap.Isa;
using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Engine;

/// <summary>Probes that fire after an instruction, and tests whether a probe is enabled; the target says what it got.</summary>
[TestFixture]
public sealed class ProbeKindTests : LiveTest
{
    [TestCase("bump:5", 5UL, 7UL)]
    [TestCase("ask_slot:5", null, 0UL)]
    public async Task AfterProbeSeesTheEffectsOfItsInstruction(string probe, ulong? before, ulong after)
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        List<(string Kind, ulong Result)> seen = [];
        void Note(in ProbeContext c) => seen.Add((c.Probe.Kind.ToString(), c.ReturnValue));
        IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync(
            [new($"a.out:{probe}", new ProbeOptions { OnHit = Note }), new($"a.out:{probe}", new ProbeOptions { OnHit = Note, AfterInstruction = true })]);
        Assert.That(enablings[0].Probes[0].Id, Is.Not.EqualTo(enablings[1].Probes[0].Id));
        Assert.That(enablings[1].Probes[0].Name, Is.EqualTo("5"));
        target.SendLine("go 2");
        target.ReadCount("twice");
        await enablings[0].DisposeAsync();
        target.SendLine("go 1");
        target.ReadCount("twice");
        await process.DisposeAsync();

        Assert.That(seen.Select(s => s.Kind), Is.EqualTo(new[] { "Offset", "PostOffset", "Offset", "PostOffset", "PostOffset" }));
        Assert.That(seen.Where(s => s.Kind == "PostOffset").Select(s => s.Result), Is.All.EqualTo(after));
        if (before is not null)
        {
            Assert.That(seen.Where(s => s.Kind == "Offset").Select(s => s.Result), Is.All.EqualTo(before));
        }

        AssertWorks(target, tests: 0);
    }

    [Test]
    public async Task HandlerAfterAnInstructionChangesItsResult()
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await using ProbeEnabling after = await process.EnableAsync("a.out:bump:5", new ProbeOptions
        {
            AfterInstruction = true,
            OnHit = static (in ProbeContext c) => c.Registers.ReturnValue += 100,
        });
        Assert.That(target.SendAndReadCount("go 3", "bump"), Is.EqualTo(3 * 107));
    }

    [TestCase("bump:entry")]
    [TestCase("bump:return")]
    public async Task OnlyOffsetsFireAfterTheirInstruction(string probe)
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(async () => await process.EnableAsync($"a.out:{probe}", new ProbeOptions { AfterInstruction = true }));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.NoMatch));
        Assert.That(error.Message, Does.Contain("offset"));
        TextCheck.AssertClean(target.ProcessId);
    }

    [TestCase("ask", 4u)]
    [TestCase("ask_slot", 5u)]
    public async Task ProgramIsToldThatItsProbeIsEnabledWhileItIs(string function, uint test)
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Probe probe = await Describe(process, function, [0], [test]);
        Assert.That(target.SendAndReadCount("go 5", function), Is.Zero, "A probe that is described is not enabled yet.");

        string name = $"db{process.ProcessId}:a.out:{function}:query";
        ProbeEnabling first = await process.EnableAsync(name, CountOnly);
        ProbeEnabling second = await process.EnableAsync("db*:::query", CountOnly);
        Assert.That(first.Probes, Is.EqualTo(new[] { probe }));
        Assert.That(second.Probes, Is.EqualTo(new[] { probe }));
        Assert.That(target.SendAndReadCount("go 5", function), Is.EqualTo(5));
        Assert.That((first.HitCount, second.HitCount), Is.EqualTo((5, 5)), "A test is no hit.");

        await first.DisposeAsync();
        Assert.That(target.SendAndReadCount("go 5", function), Is.EqualTo(5));
        await second.DisposeAsync();
        Assert.That(target.SendAndReadCount("go 5", function), Is.Zero);
        Assert.That(second.HitCount, Is.EqualTo(10));
        await process.DisposeAsync();
        AssertWorks(target, tests: 0);
    }

    [Test]
    public async Task TestAloneFiresNothingAndSharesItsInstructionWithOtherProbes()
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await Describe(process, "ask", [], [4]);
        ProbeEnabling test = await process.EnableAsync("db*:a.out:ask:query", CountOnly);
        Assert.That(test.Probes[0].Kind, Is.EqualTo(ProbeKind.IsEnabled));
        ProbeEnabling offset = await process.EnableAsync("a.out:ask:4", CountOnly);
        ProbeEnabling after = await process.EnableAsync("a.out:ask:4", new ProbeOptions { AfterInstruction = true, Buffered = false });
        Assert.That(target.SendAndReadCount("go 7", "ask"), Is.EqualTo(7));
        await test.DisposeAsync();
        Assert.That(target.SendAndReadCount("go 7", "ask"), Is.Zero);
        await process.DisposeAsync();
        Assert.That((test.HitCount, offset.HitCount, after.HitCount), Is.EqualTo((0, 14, 14)));
        AssertWorks(target, tests: 0);
    }

    [Test]
    public async Task ArgumentsAreRemapped()
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);

        // Argument 0 of the probe is native argument 2 (rdx), and the other way round; at ask+4 rdx is rdi + 1.
        await Describe(process, "ask", [4], [], [new(0, "long", "", 2, ""), new(1, "int", "", 1, ""), new(2, "int", "", 0, "")]);
        List<(ulong, ulong)> seen = [];
        await using ProbeEnabling enabling = await process.EnableAsync(
            "db*:::query", new ProbeOptions { OnHit = (in ProbeContext c) => seen.Add((c.GetArgument(0), c.GetArgument(2))) });
        target.SendLine("go 3");
        target.ReadCount("twice");
        Assert.That(seen, Is.EqualTo(new (ulong, ulong)[] { (1, 0), (2, 1), (3, 2) }));
        Assert.That(enabling.Probes[0].Arguments[0].NativeType, Is.EqualTo("long"));
    }

    [Test]
    public async Task ProviderOfAnotherNameGoesWithItsSource()
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Probe probe = await Describe(process, "ask", [0], []);
        await using ProbeEnabling enabling = await process.EnableAsync("db*:::query", CountOnly);
        Tracer.Core.Meta.Remove(process.GetProc().Entry, "db");
        Assert.That(probe.IsValid, Is.False);
        Assert.ThrowsAsync<FastTrapException>(async () => await process.EnableAsync("db*:::query", CountOnly));

        // Who had enabled it keeps it.
        target.SendLine("go 3");
        target.ReadCount("twice");
        Assert.That(enabling.HitCount, Is.EqualTo(3));
        Assert.That(Tracer.FindProbe(probe.Id), Is.SameAs(probe));
        await enabling.DisposeAsync();
        WaitUntil(() => Tracer.FindProbe(probe.Id) is null, "the cleaner removes a provider that nobody uses");
    }

    private async Task<Probe> Describe(
        TracedProcess process, string function, uint[] offsets, uint[] tests, ArgumentDescription[]? arguments = null)
    {
        ulong address = (await process.ListAsync($"a.out:{function}:entry"))[0].Address;
        Provider provider = Tracer.Core.Meta.TryProvide(process.GetProc().Entry, "db", ProviderStability.Pid, out MetaRefusal refusal)!;
        Assert.That(refusal, Is.EqualTo(MetaRefusal.None));
        Probe? probe = Tracer.Core.Meta.TryCreateProbe(
            provider,
            new MetaProbeDescription
            {
                Module = "a.out", Function = function, Name = "query", BaseAddress = address, Offsets = offsets, IsEnabledOffsets = tests, Arguments = arguments ?? [],
            },
            out refusal);
        Assert.That(refusal, Is.EqualTo(MetaRefusal.None));
        return probe!;
    }

    private static void AssertWorks(TargetProcess target, int tests)
    {
        TextCheck.AssertClean(target.ProcessId);
        Assert.That(target.SendAndReadCount("go 4", "ask"), Is.EqualTo(tests));
        Assert.That((target.ReadCount("ask_slot"), target.ReadCount("bump"), target.ReadCount("twice")), Is.EqualTo((tests, 28, 6)));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }
}
