using FastTrap.Native;
using FastTrap.Programs;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>Code that reads the target's memory as it is: whatever the pointer, the target is as it would be alone, and the value is the one there is, or marked. The target says which that is.</summary>
public sealed class PointerTests : LiveTest
{
    private const string Everything = "a.out:look_*:entry";
    private const string Unreadable = "cannot be read";

    /// <summary>Addresses at which a load faults; that of the others can be told from the address.</summary>
    private static readonly string[] s_faulting = ["gone", "guarded", "bus", "edge", "cut"];

    [Test]
    public async Task WordsAreReadOrMarked()
    {
        const int Calls = 3;
        using TargetProcess target = TargetProcess.StartTarget("pointers");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        var words = await process.On(Everything).Record(c => new { Word = c.Read<ulong>(c.Arg(0)), Number = (int)c.Arg(1) }).EnableAsync();
        int kinds = words.Mechanisms.Jump;
        Assert.That(words.Mechanisms, Has.Property(nameof(ProbeMechanisms.Breakpoint)).Zero, string.Join("; ", words.Mechanisms.Reasons.Keys));
        Assert.That(target.SendAndReadCount($"go {Calls}", "calls"), Is.EqualTo(Calls * kinds));
        WaitUntil(() => words.Mechanisms.Breakpoint == s_faulting.Length, "the sites that have faulted");
        Assert.That((words.Mechanisms.Jump, words.Mechanisms.Reasons.Single().Key), Is.EqualTo((kinds - s_faulting.Length, words.Mechanisms.Reasons.Single().Key)));
        Assert.That(words.Mechanisms.Reasons.Single().Key, Does.Contain(Unreadable));
        await words.DisposeAsync();
        Dictionary<string, (bool, ulong)> expected = target.Lines.Where(l => l.StartsWith("kind ", StringComparison.Ordinal)).Select(l => l.Split(' '))
            .ToDictionary(l => l[1], l => (l[2] == "1", ulong.Parse(l[3], System.Globalization.NumberStyles.HexNumber, null)));
        List<(string, int)> seen = [];
        await foreach (var record in words.ReadAllAsync())
        {
            string kind = record.Probe.Function["look_".Length..];
            Assert.That((record.IsComplete, record.Value.Word), Is.EqualTo(expected[kind]), kind);
            seen.Add((kind, record.Value.Number));
        }

        Assert.That(seen, Is.EquivalentTo(expected.Keys.SelectMany(k => Enumerable.Range(0, Calls).Select(n => (k, n)))));
        await EndAsync(process, target);
    }

    [TestCase(ProbeMechanism.Auto)]
    [TestCase(ProbeMechanism.Jump)]
    [TestCase(ProbeMechanism.Breakpoint)]
    public async Task TextsAreReadUpToWhereMemoryEnds(ProbeMechanism mechanism)
    {
        const int Calls = 2;
        const int Longest = 21;
        using TargetProcess target = TargetProcess.StartTarget("pointers");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        var texts = await process.On(Everything).WithMechanism(mechanism).Record(c => c.ReadString(c.Arg(0), Longest)).EnableAsync();
        target.SendAndReadCount($"go {Calls}", "calls");
        await texts.DisposeAsync();
        Dictionary<string, string> expected = target.Lines.Where(l => l.StartsWith("text ", StringComparison.Ordinal)).Select(l => l.Split(' ', 3)).ToDictionary(l => l[1], l => l[2]);
        int read = 0;
        await foreach (ProbeRecord<string> record in texts.ReadAllAsync())
        {
            string kind = record.Probe.Function["look_".Length..];
            if (expected.TryGetValue(kind, out string? text))
            {
                Assert.That(record.Value, Is.EqualTo(text[..Math.Min(text.Length, Longest)]), kind);
                read++;
            }
            else if (kind is not ("word" or "odd"))
            {
                Assert.That((record.Value, record.IsComplete), Is.EqualTo(((string?)null, false)), kind);
            }
        }

        Assert.That(read, Is.EqualTo(Calls * expected.Count));
        await EndAsync(process, target);
    }

    /// <summary>A fault in a thread that blocks its signal makes the kernel unblock it, and reset the action for all threads.</summary>
    [Test]
    public async Task MasksAndActionsAreKept()
    {
        using TargetProcess target = TargetProcess.StartTarget("pointers");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        var words = await process.On(Everything).Record(c => new { Word = c.Read<ulong>(c.Arg(0)), Text = c.ReadString(c.Arg(0), 100) }).EnableAsync();
        Assert.That(words.Mechanisms.Breakpoint, Is.Zero);
        target.SendLine("blocked 3");
        target.ReadLineStarting("masks kept");
        target.SendLine("actions");
        target.ReadLineStarting("actions kept");
        WaitUntil(() => words.Mechanisms.Breakpoint == s_faulting.Length, "the sites that have faulted");
        await words.DisposeAsync();
        await EndAsync(process, target);
    }

    /// <summary>A program that has taken its handler away leaves the rest of the action, as the kernel does.</summary>
    [Test]
    public async Task AHandlerThatWasTakenAwayDoesNotComeBack()
    {
        using TargetProcess target = TargetProcess.StartTarget("pointers");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum words = await process.On(Everything).Sum(c => c.Read<long>(c.Arg(0))).EnableAsync();
        target.SendLine("drop");
        target.ReadLineStarting("dropped");
        target.SendAndReadCount("go 3", "calls");
        target.SendLine("dropped");
        target.ReadLineStarting("still dropped");
        await words.DisposeAsync();
        await EndAsync(process, target);
    }

    /// <summary>A fault would end it, as the kernel does.</summary>
    [Test]
    public async Task ProgramsThatIgnoreFaultsAreLeftToBreakpoint()
    {
        using TargetProcess target = TargetProcess.StartTarget("pointers");
        target.SendLine("ignore");
        target.ReadLineStarting("ignored");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum words = await process.On(Everything).Sum(c => c.Read<long>(c.Arg(0))).EnableAsync();
        Assert.That(words.Mechanisms, Has.Property(nameof(ProbeMechanisms.Jump)).Zero);
        Assert.That(words.Mechanisms.Reasons.Keys.Single(), Does.Contain("ignores SIGSEGV or SIGBUS"));
        long calls = target.SendAndReadCount("go 3", "calls");
        await words.DisposeAsync();
        Assert.That(words.Count, Is.EqualTo(calls));
        target.SendLine("ignored");
        target.ReadLineStarting("still ignored");
        await EndAsync(process, target);
    }

    /// <summary>Loads fault while sites come, go, and become breakpoints, and while the process is let go.</summary>
    [Test]
    public async Task ThreadsThatFaultAreLedOnWhateverHappens()
    {
        const int Rounds = 40;
        using TargetProcess target = TargetProcess.StartTarget("pointers");
        target.SendLine("storm");
        for (int round = 0; round < Rounds; round++)
        {
            await using TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            ProbeSum words = await process.On(Everything).Sum(c => c.Read<long>(c.Arg(0))).EnableAsync();
            if (round % 3 != 0)
            {
                ProbeRecords<string> texts = await process.On("a.out:look_cut:entry").Record(c => c.ReadString(c.Arg(0), 1000)).EnableAsync();
                await words.DisposeAsync();
                await (round % 3 == 1 ? texts.DisposeAsync() : default);
            }
        }

        target.SendLine("calm");
        target.ReadLineStarting("calm");
        await EndAsync(await Tracer.AttachAsync(target.ProcessId), target);
    }

    /// <summary>A filter that a thread installs later would kill it for a system call of ours.</summary>
    [Test]
    public async Task NoSystemCallsAreMade()
    {
        using TargetProcess target = TargetProcess.StartTarget("pointers");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        var words = await process.On(Everything).Record(c => new { Word = c.Read<ulong>(c.Arg(0)), Text = c.ReadString(c.Arg(0), 100), Stack = c.Stack(4) }).EnableAsync();
        Assert.That(words.Mechanisms.Breakpoint, Is.Zero);
        target.SendLine("filter");
        target.ReadLineStarting("filtered");
        long calls = target.SendAndReadCount("go 5", "calls");
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        long read = 0;
        await foreach (var _ in words.ReadAllAsync())
        {
            read++;
        }

        Assert.That(read, Is.EqualTo(calls));
    }

    /// <summary>Nobody mends the loads of a killed tracer's code: it makes none.</summary>
    [Test]
    public async Task TargetIsUnharmedWhenTheTracerIsKilled()
    {
        using PrivateDirectory directory = new("pointers");
        using TargetProcess target = TargetProcess.StartTarget("pointers");
        using (TargetProcess tracer = SeparateTracer.Start(directory, ["read", $"{target.ProcessId}", Everything]))
        {
            Assert.That(tracer.ReadLine(), Does.StartWith("armed ").And.EndsWith(" 0"), () => tracer.Errors);
            Assert.That(tracer.Signal(Posix.SIGKILL), Is.True);
            Assert.That(tracer.WaitForExit(), Is.EqualTo(new TargetExit(0, Posix.SIGKILL)));
        }

        target.SendAndReadCount("go 100", "calls");
        await EndAsync(await Tracer.AttachAsync(target.ProcessId), target);
    }

    [Test]
    public async Task AProcessWhoseCodeNeedsTheTracerIsNotLetGoOf()
    {
        using TargetProcess target = TargetProcess.StartTarget("pointers");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum words = await process.On("a.out:look_gone:entry").Sum(c => c.Read<long>(c.Arg(0))).EnableAsync();
        Assert.That(words.Mechanisms.Jump, Is.EqualTo(1));
        FastTrapException? refusal = Assert.ThrowsAsync<FastTrapException>(process.LetGoAsync);
        Assert.That((refusal!.Error, refusal.Message.Contains("look_gone:entry", StringComparison.Ordinal)), Is.EqualTo((FastTrapError.NeedsTracer, true)), refusal.Message);
        await words.DisposeAsync();
        words = await process.On("a.out:look_gone:entry").WithMechanism(ProbeMechanism.Jump).Sum(c => c.Read<long>(c.Arg(0))).EnableAsync();
        await process.LetGoAsync();
        target.SendAndReadCount("go 7", "calls");
        await words.DisposeAsync();
        Assert.That((words.Count, words.IncompleteCount), Is.EqualTo((7L, 7L)));
        await EndAsync(process, target);
    }

    private static async Task EndAsync(TracedProcess process, TargetProcess target)
    {
        await process.DisposeAsync();
        KillTests.AssertClean(target);
        target.SendLine("actions");
        target.ReadLineStarting("actions kept");
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }
}
