using System.Globalization;
using FastTrap.Engine;
using FastTrap.Native;
using FastTrap.Tests.Faults;
using FastTrap.Tests.Live;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Engine;

/// <summary>The engine's books on live processes: numbers, limits, roll-back, what is shared, shutting down, pids that are given again.</summary>
[TestFixture]
public sealed class EngineLiveTests : LiveTest
{
    [Test]
    public async Task ProbeKeepsItsNumberWhenItIsDisabledAndEnabledAgain()
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling first = await process.EnableAsync("a.out:twice:return", CountOnly);
        Probe probe = first.Probes[0];
        string provider = $"pid{process.ProcessId}";
        Assert.That(Tracer.FindProbe(probe.Id), Is.SameAs(probe));
        Assert.That(Tracer.FindProbe(provider, "a.out", "twice", "return") ?? Tracer.FindProbe(provider, "sites", "twice", "return"), Is.SameAs(probe));
        Assert.That((probe.Stability, probe.Arguments.Count, probe.SiteCount), Is.EqualTo((ProviderStability.Pid, 0, 2)));
        await first.DisposeAsync();
        Assert.That(probe.IsValid);
        TextCheck.AssertClean(target.ProcessId);

        ProbeEnabling second = await process.EnableAsync("a.out:twice:return", CountOnly);
        Assert.That(second.Probes[0], Is.SameAs(probe));
        target.SendLine("go 6");
        target.ReadCount("twice");
        Assert.That((first.HitCount, second.HitCount), Is.EqualTo((0, 6)));
        target.SendLine("quit");
        await process.Completion.WaitAsync(Patience);
        Assert.That(probe.IsValid, Is.False);
        WaitUntil(() => Tracer.FindProbe(probe.Id) is null, "the probes of a process that has ended are forgotten");
        WaitUntil(() => Tracer.Core.Procs.Count == 0 && !Tracer.Core.Cleaner.IsRunning, "the proc goes, and the cleaner's thread ends");
    }

    [Test]
    public async Task DisplacedInstructionIsWhatStoodThere()
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ulong address = (await process.ListAsync("a.out:bump:entry"))[0].Address;
        Assert.That(process.TryGetDisplacedInstruction(address, out _), Is.False);
        ProbeEnabling enabling = await process.EnableAsync("a.out:bump:entry", CountOnly);
        Assert.That(process.TryGetDisplacedInstruction(address, out byte[]? instruction));
        Assert.That(instruction, Is.EqualTo(new byte[] { 0xb8, 5, 0, 0, 0 }));
        Assert.That(process.TryGetDisplacedInstruction(address + 1, out _), Is.False);
        await enabling.DisposeAsync();
        Assert.That(process.TryGetDisplacedInstruction(address, out instruction), Is.False);
        Assert.That(instruction, Is.Null);
    }

    /// <summary>In the reference a tracepoint belongs to a probe, which swaps it when it goes and others still use it; here it belongs to the process.</summary>
    [Test]
    public async Task TracepointInUseOutlivesTheProbeThatMadeIt()
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling maker = await process.EnableAsync("a.out:bump:entry", CountOnly);
        Tracepoint tracepoint = process.GetProc().Table.All().Single();
        ProbeEnabling other = await process.EnableAsync("a.out:bump:0", CountOnly);
        Assert.That(process.GetProc().Table.All().Single(), Is.SameAs(tracepoint));
        await maker.DisposeAsync();
        Assert.That(process.GetProc().Table.All().Single(), Is.SameAs(tracepoint));
        target.SendAndReadCount("go 3", "twice");
        ProbeEnabling again = await process.EnableAsync("a.out:bump:entry", CountOnly);
        await other.DisposeAsync();
        target.SendAndReadCount("go 3", "twice");
        await again.DisposeAsync();
        Assert.That(process.GetProc().Table.Count, Is.Zero);
        Assert.That((maker.HitCount, other.HitCount, again.HitCount), Is.EqualTo((0, 3, 3)));
        TextCheck.AssertClean(target.ProcessId);
    }

    [TestCase(2)]
    [TestCase(3)]
    public async Task ProbeOfWhichOneTrapFailsIsRolledBackAndOthersStand(int failing)
    {
        FaultyPlatform platform = new();
        await using Tracer tracer = new(null, platform);
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await tracer.AttachAsync(target.ProcessId);

        // Traps are written in the order of addresses: after the run-time linker's, the entry's, then those of the two returns.
        platform.Set(new Fault(nameof(IPlatform.WriteCode), FaultKind.Error, Errno.EIO, failing + 1), target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:twice:*[ny]", CountOnly);
        Assert.That(platform.IsReached);
        platform.Set(null, 0);
        Assert.That(enabling.Probes.Select(p => p.Name), Is.EqualTo(new[] { "entry" }));
        Assert.That(enabling.Failures.Select(f => f.Refusal), Is.EqualTo(new[] { ProbeRefusal.CodeChanged }));
        Assert.That(process.GetProc().Table.Count, Is.EqualTo(1), "A trap of the failed probe stayed.");
        Assert.That(tracer.Core.EnabledTracepoints, Is.EqualTo(1));
        target.SendAndReadCount("go 4", "twice");
        Assert.That(enabling.HitCount, Is.EqualTo(4));

        // What failed can be enabled when the reason has gone.
        ProbeEnabling again = await process.EnableAsync("a.out:twice:return", CountOnly);
        target.SendAndReadCount("go 4", "twice");
        Assert.That(again.HitCount, Is.EqualTo(4));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
    }

    [Test]
    public async Task LimitIsTypedAndUnusedProbesMakeRoom()
    {
        await using Tracer tracer = new(new TracerOptions { MaximumTracepoints = 3 });
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await tracer.AttachAsync(target.ProcessId);
        ProbeEnabling twice = await process.EnableAsync("a.out:twice:return", CountOnly);
        ProbeEnabling ask = await process.EnableAsync("a.out:ask:entry", CountOnly);
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(async () => await process.EnableAsync("a.out:bump:entry", CountOnly));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.TooManyTracepoints));
        Assert.That(error.Message, Does.Contain("MaximumTracepoints"));
        Assert.That(tracer.Core.Registry.Total, Is.EqualTo(3));

        // Two of three were the return probe's: nobody has it enabled any more, so it makes room.
        Probe forgotten = twice.Probes[0];
        await twice.DisposeAsync();
        ProbeEnabling bump = await process.EnableAsync("a.out:bump:entry", CountOnly);
        Assert.That((forgotten.IsValid, ask.Probes[0].IsValid), Is.EqualTo((false, true)));
        target.SendAndReadCount("go 3", "twice");
        Assert.That((twice.HitCount, ask.HitCount, bump.HitCount), Is.EqualTo((0, 3, 3)));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
    }

    [Test]
    public async Task TracerInUseRefusesToShutDown()
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("a.out:bump:entry", CountOnly);
        Assert.That(await Tracer.TryShutdownAsync(), Is.False);
        target.SendAndReadCount("go 3", "twice");
        Assert.That(enabling.HitCount, Is.EqualTo(3));
        ProbeEnabling more = await process.EnableAsync("a.out:twice:entry", CountOnly);
        await enabling.DisposeAsync();
        Assert.That(await Tracer.TryShutdownAsync(), Is.False);
        await more.DisposeAsync();
        Assert.That(await Tracer.TryShutdownAsync());
        Assert.That(process.Completion.Result.Kind, Is.EqualTo(ProcessExitKind.Detached));
        Assert.ThrowsAsync<ObjectDisposedException>(() => Tracer.AttachAsync(target.ProcessId));
        TextCheck.AssertClean(target.ProcessId);
    }

    [Test]
    public async Task DisposeIsBoundedThoughAHandlerDoesNotReturn()
    {
        Tracer tracer = new(new TracerOptions { DisposeTimeout = TimeSpan.FromMilliseconds(200) });
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await tracer.AttachAsync(target.ProcessId);
        using ManualResetEventSlim entered = new();
        using ManualResetEventSlim mayReturn = new();
        await process.EnableAsync("a.out:bump:entry", new ProbeOptions
        {
            OnHit = (in ProbeContext _) =>
            {
                entered.Set();
                mayReturn.Wait();
            },
        });
        try
        {
            target.SendLine("go 2");
            Assert.That(entered.Wait(Patience));
            await tracer.DisposeAsync().AsTask().WaitAsync(Patience);
            Assert.That(process.Completion.IsCompleted, Is.False, "The handler did not hold it up.");
            TextCheck.AssertClean(target.ProcessId);
        }
        finally
        {
            mayReturn.Set();
        }

        await process.DisposeAsync().AsTask().WaitAsync(Patience);
        Assert.That(target.ReadCount("bump"), Is.EqualTo(14));
    }

    [Test]
    public async Task ThousandsOfDisposalsOneByOneLeaveCleanTextAndASmallTable()
    {
        using TargetProcess target = TargetProcess.StartTarget("sites");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync(
            [.. new[] { "ask", "ask_slot", "bump", "twice", "main" }.SelectMany(f => new ProbeRequest[] { new($"a.out:{f}:entry", CountOnly), new($"a.out:{f}:*", CountOnly) })]);
        int full = process.GetProc().Table.Count;
        Assert.That(full, Is.GreaterThan(60));
        for (int i = enablings.Count - 1; i > 0; i--)
        {
            await enablings[i].DisposeAsync();
        }

        TracepointTable table = process.GetProc().Table;
        Assert.That(table.Count, Is.EqualTo(1));
        Assert.That(table.IsSparse, Is.False, "A table of what has gone stayed.");
        target.SendAndReadCount("go 3", "twice");
        Assert.That(enablings[0].HitCount, Is.EqualTo(3));
        await process.DisposeAsync();
        TextCheck.AssertClean(target.ProcessId);
    }

    [Test]
    public async Task PidThatIsGivenAgainIsAnotherProcess()
    {
        const string LastPid = "/proc/sys/kernel/ns_last_pid";
        if (Posix.geteuid() != 0 || !File.Exists(LastPid))
        {
            Assert.Ignore("Only root can have a pid given again, and only where ns_last_pid is there.");
        }

        TargetProcess old = TargetProcess.StartTarget("sites");
        int processId = old.ProcessId;
        TracedProcess oldProcess = await Tracer.AttachAsync(processId);
        ProbeEnabling oldEnabling = await oldProcess.EnableAsync("a.out:bump:entry", CountOnly);
        Probe oldProbe = oldEnabling.Probes[0];
        old.SendAndReadCount("go 2", "twice");
        ProcEntry oldEntry = oldProcess.GetProc().Entry;
        old.SendLine("quit");
        old.WaitForExit();
        old.Dispose();
        await oldProcess.Completion.WaitAsync(Patience);

        TargetProcess? young = null;
        for (int tries = 0; tries < 200 && young is null; tries++)
        {
            try
            {
                // The next pid is that of the target's runner, and the one after it the target's.
                File.WriteAllText(LastPid, (processId - 2).ToString(CultureInfo.InvariantCulture));
            }
            catch (Exception e) when (e is UnauthorizedAccessException or IOException)
            {
                Assert.Ignore($"This kernel does not let pids be given again: {e.Message}");
            }

            // The kernel tells start times in hundredths of a second: another one must have begun.
            long since = Environment.TickCount64;
            WaitUntil(() => Environment.TickCount64 - since > 20, "another start time");
            young = TargetProcess.StartTarget("sites");
            if (young.ProcessId != processId)
            {
                young.Dispose();
                young = null;
            }
        }

        if (young is null)
        {
            Assert.Ignore("Others took the pid each time.");
        }

        using (young)
        {
            // The old one is not disposed, and as if nobody had looked at it since.
            TracedProcess process = await Tracer.AttachAsync(processId);
            Assert.That(process.TryGetDisplacedInstruction(oldProbe.Address, out _), Is.False);
            ProbeEnabling enabling = await process.EnableAsync("a.out:bump:entry", CountOnly);
            ProcEntry entry = process.GetProc().Entry;
            Assert.That(entry.ProcessId, Is.EqualTo(oldEntry.ProcessId));
            Assert.That(entry.Identity, Is.Not.EqualTo(oldEntry.Identity));
            Assert.That(enabling.Probes[0].Id, Is.Not.EqualTo(oldProbe.Id));
            Assert.That((oldProbe.IsValid, enabling.Probes[0].IsValid), Is.EqualTo((false, true)));
            young.SendAndReadCount("go 3", "twice");
            await oldEnabling.DisposeAsync();
            await oldProcess.DisposeAsync();
            young.SendAndReadCount("go 3", "twice");
            Assert.That((oldEnabling.HitCount, enabling.HitCount), Is.EqualTo((2, 6)));
            await process.DisposeAsync();
            TextCheck.AssertClean(processId);
        }
    }
}
