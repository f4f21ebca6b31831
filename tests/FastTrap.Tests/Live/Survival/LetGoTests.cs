using FastTrap.Engine.Mechanisms;
using FastTrap.Native;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;
using Leftovers = FastTrap.Engine.Mechanisms.Leftovers;

namespace FastTrap.Tests.Live;

/// <summary>A process that is let go of counts and records on, untraced; what it counted can be read, and is exact.</summary>
[TestFixture]
public sealed class LetGoTests : LiveTest
{
    [TestCase(false)]
    [TestCase(true)]
    public async Task CountsGoOnUntracedAndAreExact(bool disposesProcess)
    {
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        target.SendLine("count");
        long before = target.ReadCount("calls");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum calls = await process.On("a.out:plain:entry").Count().EnableAsync();
        ProbeSum returns = await process.On("a.out:scaled:return").Count().EnableAsync();
        await process.LetGoAsync();
        Assert.That((process.IsLetGo, (await process.Completion).Kind), Is.EqualTo((true, ProcessExitKind.Detached)));
        Assert.That(File.ReadAllLines($"/proc/{target.ProcessId}/status"), Has.Member("TracerPid:\t0"));
        target.SendLine("go");
        for (int round = 0; round < 20; round++)
        {
            target.SendLine("phase");
            target.ReadLineStarting("phase ");
        }

        target.SendLine("fork");
        Assert.That(target.ReadLineStarting("child "), Is.EqualTo("child 700"), "a fork child");
        target.SendLine("count");
        long expected = target.ReadCount("calls") - before;
        Assert.That((calls.Count, returns.Count), Is.EqualTo((expected, expected)));
        Assert.That(expected, Is.GreaterThan(1000));
        target.SendLine("go");
        await (disposesProcess ? process.DisposeAsync() : calls.DisposeAsync());
        KillTests.AssertClean(target);
        KillTests.AssertGoesOn(target);
        long after = calls.Count;
        KillTests.AssertGoesOn(target);
        Assert.That((calls.Count, returns.Count >= expected), Is.EqualTo((after, true)));
        await returns.DisposeAsync();
        await process.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    /// <summary>Whoever comes back finds threads everywhere: in front of traps, behind them, in the guard, in trampolines.</summary>
    [TestCase(ProbeMechanism.Jump)]
    [TestCase(ProbeMechanism.InProcessTrap)]
    public async Task AttachedToAgainAndAgainItIsUnharmedAndExact(ProbeMechanism mechanism)
    {
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        for (int round = 0; round < 20; round++)
        {
            target.SendLine("count");
            long before = target.ReadCount("calls");
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            ProbeSum calls = await process.On("a.out:plain:entry").WithMechanism(mechanism).Count().EnableAsync();
            await process.LetGoAsync();
            target.SendLine("go");
            KillTests.AssertGoesOn(target);
            TracedProcess again = await Tracer.AttachAsync(target.ProcessId);
            long after = calls.Count;
            KillTests.AssertClean(target);
            target.SendLine("count");
            long end = target.ReadCount("calls");
            target.SendLine("go");
            KillTests.AssertGoesOn(target);
            Assert.That((again.Leftovers?.ProbesRemoved, calls.Count), Is.EqualTo((1, after)), $"round {round}");
            Assert.That(after, Is.InRange(1000, end - before));
            Assert.That(target.Lines, Has.None.StartsWith("FAIL"), $"round {round}");
            await again.DisposeAsync();
            await process.DisposeAsync();
        }

        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    /// <summary>Whoever comes back needs a thread that makes system calls, and takes one that runs into a trap at that moment.</summary>
    [Test]
    public async Task ABusyProcessIsComeBackTo()
    {
        const int Rounds = 30;
        using TargetProcess target = TargetProcess.StartTarget("visited", null, ["island", "2"]);
        for (int round = 0; round < Rounds; round++)
        {
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            Assert.That(process.Leftovers is null, Is.EqualTo(round == 0));
            ProbeSum work = await process.On("a.out:work:entry").WithMechanism(ProbeMechanism.InProcessTrap).Count().EnableAsync();
            await process.LetGoAsync();
            WaitUntil(() => work.Count > 100, "hits");
        }

        await using (await Tracer.AttachAsync(target.ProcessId))
        {
        }

        KillTests.AssertClean(target);
        target.SendLine("stop");
        target.ReadLineStarting("count work ");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    /// <summary>What lies right behind a thread's stack may be ours: no word of it is one of the stack.</summary>
    [Test]
    public async Task NoStackReachesIntoMemoryOfAnotherTracer()
    {
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        await using TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        _ = await process.On("a.out:plain:entry").Count().EnableAsync();
        await process.LetGoAsync();
        Assert.That(Leftovers.TryFind(LinuxPlatform.Instance, target.ProcessId, out Leftovers? left, out string? problem), Is.True);
        Assert.That((problem, left!.Covers.Count), Is.EqualTo(((string?)null, 1)));
        AdoptedMemory adopted = new();
        adopted.Add(left);
        StackScan bounded = new(LinuxPlatform.Instance, () => adopted.Mapped);
        StackScan unbounded = new(LinuxPlatform.Instance, () => []);
        (ulong start, ulong length) = left.Covers[0];
        Assert.That(Count(unbounded), Is.Positive, "the cover's state points into the cover");
        Assert.That(Count(bounded), Is.Zero);
        await using TracedProcess again = await Tracer.AttachAsync(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));

        int Count(StackScan scan)
        {
            int found = 0;
            foreach ((ulong region, _) in left.Regions)
            {
                scan.Scan(target.ProcessId, region, start, start + length - 1, _ => found++);
            }

            return found;
        }
    }

    /// <summary>Whichever action a thread of the program sets last counts, also if it sets it while the tracer stands in front of it, or gives it back.</summary>
    [Test]
    public async Task WhatTheProgramSetsMeanwhileIsItsAction()
    {
        const int Rounds = 24;
        using TargetProcess target = TargetProcess.StartTarget("actions");
        for (int round = 0; round < Rounds; round++)
        {
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            ProbeSum hot = await process.On("a.out:hot:entry").Count().EnableAsync();
            if (round % 2 == 0)
            {
                Race(target);
            }

            await process.LetGoAsync();
            target.SendLine("check");
            Assert.That(target.ReadLineStarting("checked "), Is.Not.EqualTo("checked 0"));
            Assert.That(hot.Count, Is.EqualTo(1));
            if (round % 2 != 0)
            {
                Race(target);
            }

            await (await Tracer.AttachAsync(target.ProcessId)).DisposeAsync();
            target.SendLine("check");
            Assert.That(target.ReadLineStarting("checked "), Is.EqualTo("checked 0"));
            Assert.That(target.Lines, Has.None.StartsWith("FAIL"), $"round {round}");
            await process.DisposeAsync();
        }

        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));

        static void Race(TargetProcess target)
        {
            target.SendLine("race");
            target.ReadLineStarting("waiting");
        }
    }

    /// <summary>A tracer has what it shares with its targets mapped as well, by the same names: nobody has left that.</summary>
    [Test]
    public async Task ATracerCanBeTraced()
    {
        using PrivateDirectory directory = new("traced-tracer");
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        using TargetProcess other = SeparateTracer.Start(directory, ["count", $"{target.ProcessId}", "Jump", "a.out:plain:entry"]);
        Assert.That(other.ReadLineStarting("armed "), Is.EqualTo("armed 1 0 0"));
        string[] before = Shared(other);
        Assert.That(before, Is.Not.Empty);
        TracedProcess process = await Tracer.AttachAsync(other.ProcessId);
        Assert.That(process.Leftovers, Is.Null);
        await process.DisposeAsync();
        Assert.That(Shared(other), Is.EqualTo(before));
        KillTests.AssertGoesOn(target);

        static string[] Shared(TargetProcess process) =>
            [.. File.ReadAllLines($"/proc/{process.ProcessId}/maps").Where(line => line.Contains("/memfd:fasttrap.", StringComparison.Ordinal))];
    }

    [Test]
    public async Task RecordsAreReadWhileNobodyTraces()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        var records = await process.On("a.out:hot:entry").Record(c => new { Value = (int)c.Arg(0) }).EnableAsync();
        await process.LetGoAsync();
        target.SendAndReadCount("go 500", "hot");
        int read = 0;
        long sum = 0;
        await foreach (var record in records.ReadAllAsync())
        {
            sum += record.Value.Value;
            if (++read == 1000)
            {
                break;
            }
        }

        Assert.That((read, sum, records.LostCount), Is.EqualTo((1000, 2 * (499L * 500 / 2), 0L)));
        await records.DisposeAsync();
        KillTests.AssertClean(target);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    [Test]
    public async Task SemaphoresStayRaisedUntilTheProbesGo()
    {
        using TargetProcess target = TargetProcess.StartTarget("usdt");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum hits = await process.On("fasttrap_test*:::guarded").Count().EnableAsync();
        await process.LetGoAsync();
        Assert.That(target.SendAndReadCount("semaphores", "semaphore"), Is.EqualTo(1));
        await hits.DisposeAsync();
        Assert.That(target.SendAndReadCount("semaphores", "semaphore"), Is.Zero);
        KillTests.AssertClean(target);
        await process.DisposeAsync();
    }

    [Test]
    public async Task WhatNeedsTheTracerIsNamedAndStays()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum sum = await process.On("a.out:hot:entry").Count().EnableAsync();
        int hits = 0;
        ProbeEnabling enabling = await process.EnableAsync("a.out:once:entry", new ProbeOptions { OnHit = (in ProbeContext _) => hits++ });
        FastTrapException? refusal = Assert.ThrowsAsync<FastTrapException>(process.LetGoAsync);
        Assert.That((refusal!.Error, refusal.Message), Is.EqualTo((FastTrapError.NeedsTracer, refusal.Message)));
        Assert.That(refusal.Message, Does.Contain("once:entry"));
        Assert.That(process.IsLetGo, Is.False);
        target.SendAndReadCount("go 50", "hot");
        Assert.That(target.SendAndReadCount("churn 3", "hot"), Is.EqualTo(3));
        Assert.That((sum.Count, hits), Is.EqualTo((103L, 3)));
        await enabling.DisposeAsync();
        await process.LetGoAsync();
        target.SendAndReadCount("go 50", "hot");
        Assert.That(sum.Count, Is.EqualTo(203));

        // Attached to anew, it is clean, and what was counted stays.
        await using TracedProcess again = await Tracer.AttachAsync(target.ProcessId);
        Assert.That((again == process, again.Leftovers?.IsOwnerAlive), Is.EqualTo((false, true)));
        TextCheck.AssertClean(target.ProcessId);
        target.SendAndReadCount("go 50", "hot");
        Assert.That(sum.Count, Is.EqualTo(203));
        await sum.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    /// <summary>Whatever it is that has overwritten a journal: who cannot understand all of it touches nothing.</summary>
    [TestCase(0x0008, "version")]
    [TestCase(0x8000, "length")]
    [TestCase(0x8002, "length")]
    [TestCase(0x8010, "makes no sense")]
    [TestCase(0x8048, "makes no sense")]
    public async Task AJournalThatIsDamagedIsRefusedAndNothingIsTouched(int offset, string reason)
    {
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum calls = await process.On("a.out:plain:entry").Count().EnableAsync();
        await process.LetGoAsync();
        string journal = File.ReadLines($"/proc/{target.ProcessId}/maps").Single(l => l.Contains("memfd:fasttrap.journal", StringComparison.Ordinal));
        IReadOnlyList<TextDifference> before = TextCheck.Compare(target.ProcessId);
        using (FileStream memory = new($"/proc/{target.ProcessId}/mem", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0))
        {
            long place = long.Parse(journal.AsSpan(0, journal.IndexOf('-')), System.Globalization.NumberStyles.HexNumber, null) + offset;
            byte[] own = new byte[1];
            RandomAccess.Read(memory.SafeFileHandle, own, place);
            RandomAccess.Write(memory.SafeFileHandle, [(byte)~own[0]], place);
            FastTrapException? refusal = Assert.ThrowsAsync<FastTrapException>(() => Tracer.AttachAsync(target.ProcessId));
            Assert.That((refusal!.Error, refusal.Message), Is.EqualTo((FastTrapError.LeftoversNotUnderstood, refusal.Message)));
            Assert.That(refusal.Message, Does.Contain(reason));
            Assert.That(TextCheck.Compare(target.ProcessId), Is.EqualTo(before).And.Not.Empty);
            KillTests.AssertGoesOn(target);
            RandomAccess.Write(memory.SafeFileHandle, own, place);
        }

        await process.DisposeAsync();
        await calls.DisposeAsync();
        KillTests.AssertClean(target);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }
}
