using FastTrap.Tests.Arm64Live.Guest;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Arm64Live;

/// <summary>Probes on functions of arm64 programs: the target's own counts are the oracle, and the result of the same program alone.</summary>
[TestFixture(Plain)]
[TestFixture(Full)]
public sealed class Arm64ProbeTests(string processor) : Arm64LiveTest(processor)
{
    private static readonly string[] s_counted =
    [
        "args0", "args4", "args5", "args10", "recurse", "tail_caller", "tail_target", "with_cold", "many_returns", "struct_return", "through_pointer", "callback", "variadic", "leaf",
    ];

    [TestCase("calls")]
    [TestCase("calls-O0")]
    [TestCase("calls-static")]
    [TestCase("calls-protected")]
    public async Task EntriesAndReturnsAreCountedExactly(string name)
    {
        string[] arguments = ["2", "8"];
        IReadOnlyList<string> alone = RunAlone(name, arguments);
        using GuestProcess target = Start(name, arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        Assert.That(process.Architecture, Is.EqualTo(System.Runtime.InteropServices.Architecture.Arm64));
        IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync(
            [.. s_counted.SelectMany(f => new[] { new ProbeRequest($"a.out:{f}:entry", CountOnly), new ProbeRequest($"a.out:{f}:return", CountOnly) })]);
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.Multiple(() =>
        {
            for (int i = 0; i < s_counted.Length; i++)
            {
                long own = target.GetCount(s_counted[i]);
                Assert.That(own, Is.Positive, s_counted[i]);
                Assert.That(enablings[2 * i].HitCount, Is.EqualTo(own), $"{s_counted[i]}:entry");
                Assert.That(enablings[(2 * i) + 1].HitCount, Is.EqualTo(own), $"{s_counted[i]}:return");
            }
        });
        AssertEndsAs(target, alone);
    }

    [Test]
    public async Task EveryInstructionOfEveryKindIsCarriedOut()
    {
        const int Rounds = 6;
        IReadOnlyList<string> alone = RunAlone("arm64_instructions", $"{Rounds}");
        using GuestProcess target = Start("arm64_instructions", $"{Rounds}");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling every = await process.EnableAsync("a.out:f_*:*", CountOnly);
        ProbeEnabling entries = await process.EnableAsync("a.out:f_*:entry", CountOnly);
        target.SendLine("go");
        target.ReadLineStarting("sum ");
        await process.DisposeAsync();
        Assert.Multiple(() =>
        {
            foreach (Probe probe in entries.Probes)
            {
                Assert.That(entries.GetHitCount(probe), Is.EqualTo(target.GetCount(probe.Function)), probe.Function);
            }
        });

        // Nothing may stop between the halves of the exclusive pair; all else can be probed.
        Assert.That(every.Failures, Is.Not.Empty);
        Assert.That(every.Failures.Select(f => f.Probe), Is.All.Contains(":f_exclusive:"), string.Join('\n', every.Failures));
        Assert.That(every.Failures.Select(f => f.Refusal), Is.All.EqualTo(ProbeRefusal.ExclusiveSequence));
        AssertEndsAs(target, alone);
    }

    [Test]
    public async Task ArgumentsAndReturnValuesAreThoseOfTheSource()
    {
        using GuestProcess target = Start("calls", "1", "6");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling entry = await process.EnableAsync("a.out:args10:entry", new ProbeOptions { ArgumentCount = 10 });
        ProbeEnabling exit = await process.EnableAsync("a.out:args6:return");
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        List<ulong[]> entries = [];
        await foreach (ProbeHit hit in entry.ReadAllAsync())
        {
            entries.Add([.. Enumerable.Range(0, 10).Select(i => hit.Arguments[i])]);
        }

        List<ulong> returns = [];
        await foreach (ProbeHit hit in exit.ReadAllAsync())
        {
            returns.Add(hit.Arguments[1]);
        }

        Assert.That(entries, Is.EqualTo(Enumerable.Range(0, 6).Select(n => new ulong[] { (ulong)n, 2, 3, 4, 5, 6, 7, 8, 9, 10 })));
        Assert.That(returns, Is.EqualTo(Enumerable.Range(0, 6).Select(n => (ulong)(n + 90))));
    }

    [Test]
    public async Task HandlerChangesArgumentsAndReturnValues()
    {
        using GuestProcess target = Start("threads", "1");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        List<ulong> results = [];
        await using ProbeEnabling entry = await process.EnableAsync("a.out:hot:entry", new ProbeOptions
        {
            OnHit = static (in ProbeContext c) => c.Registers[Arm64Register.X0] = 100,
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

    [TestCase("calls-O0")]
    [TestCase("calls-protected")]
    public async Task StackNamesTheCallers(string name)
    {
        using GuestProcess target = Start(name, "1", "1");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling leaf = await process.EnableAsync("a.out:recurse:entry", new ProbeOptions { StackDepth = 16, BufferCapacity = 64 });
        ProbeEnabling args = await process.EnableAsync("a.out:args2:entry", new ProbeOptions { StackDepth = 16, BufferCapacity = 64 });
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await args.DisposeAsync();
        List<string> stacks = [];
        await foreach (ProbeHit hit in args.ReadAllAsync())
        {
            stacks.Add(string.Join(' ', hit.Stack.ToArray().Take(3).Select(a => process.TryResolve(a, out CodeLocation location) ? location.Function ?? "?" : "?")));
        }

        Assert.That(leaf.HitCount, Is.Positive);
        Assert.That(stacks, Has.Count.EqualTo(2));
        Assert.That(stacks[0], Does.StartWith("args2 work "));
        Assert.That(stacks[1], Is.EqualTo("args2 args5 work"));
    }

    [Test]
    public async Task SignedReturnAddressesAndLandingPadsHold()
    {
        IReadOnlyList<string> alone = RunAlone("arm64_protected");
        using GuestProcess target = Start("arm64_protected");
        Assert.That(target.Lines, Has.Member(HasEverything ? "hwcap pac 1 bti 1" : "hwcap pac 0 bti 0").And.Member(HasEverything ? "guarded 1" : "guarded 0"));
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling every = await process.EnableAsync("a.out:leaf:*", CountOnly);
        IReadOnlyList<ProbeEnabling> others = await process.EnableAsync(
            [new("a.out:nested:*", CountOnly), new("a.out:jumps:*", CountOnly), new("a.out:leaf:entry", CountOnly), new("a.out:nested:return", CountOnly)]);
        target.SendLine("go 12");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.That(every.Failures.Concat(others.SelectMany(o => o.Failures)), Is.Empty);
        Assert.That(others[2].HitCount, Is.EqualTo(target.GetCount("leaf")));
        Assert.That(others[3].HitCount, Is.EqualTo(target.GetCount("nested")));
        AssertEndsAs(target, alone);
    }

    [Test]
    public async Task LongVectorsOutliveTheMappingOfASlot()
    {
        IReadOnlyList<string> alone = RunAlone("arm64_sve");
        using GuestProcess target = Start("arm64_sve");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling middle = await process.EnableAsync("a.out:fill:8", CountOnly);
        target.SendLine("go");
        Assert.That(target.ReadLineStarting("sve "), Is.EqualTo(HasEverything ? "sve 1" : "sve 0"));
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.That(middle.HitCount, Is.EqualTo(HasEverything ? 1 : 0));
        AssertEndsAs(target, alone);
    }
}
