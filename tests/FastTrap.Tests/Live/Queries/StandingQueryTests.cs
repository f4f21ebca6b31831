using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>Queries that stand for whole trees: armed by jumps in each program before it runs, counted to the last hit.</summary>
[TestFixture]
public sealed class StandingQueryTests : LiveTest
{
    [TestCase(ProbeMechanism.Auto)]
    [TestCase(ProbeMechanism.Breakpoint)]
    public async Task TreeWithALibraryThatComesAndGoesIsCountedExactly(ProbeMechanism mechanism)
    {
        List<(int Process, long Count)> ended = [];
        List<ProbeMechanisms> mechanisms = [];
        StandingResult<ProbeTally> program = await Tracer.EnableAsync(
            ProbeQuery.On("a.out:hot:entry").WithMechanism(mechanism).CountByProbe(),
            ended: (process, tally) =>
            {
                lock (ended)
                {
                    mechanisms.Add(tally.Mechanisms);
                    ended.Add((process.ProcessId, tally.GetCounts().Values.Sum()));
                }
            });
        StandingResult<ProbeSum> library = await Tracer.EnableAsync(ProbeQuery.On("libstorm_plugin.so:plugin_hot:return").WithMechanism(mechanism).Count());
        (long hot, long plugin) = await StormTree.RunAsync(Tracer);
        await program.DisposeAsync();
        await library.DisposeAsync();
        Assert.That((program.LastCallbackException, program.ProcessFailures, library.ProcessFailures), Is.EqualTo(((Exception?)null, Array.Empty<FastTrapException>(), Array.Empty<FastTrapException>())));
        Assert.That(ended.Sum(e => e.Count) + program.Members.Sum(m => m.Value.Count), Is.EqualTo(hot));
        Assert.That((program.Count, library.Count), Is.EqualTo((hot, plugin)));
        Assert.That(ended.Select(e => e.Process).Distinct().Count(), Is.GreaterThan(1), "the program forks");
        Assert.That(mechanisms.Select(m => (m.Jump, m.Breakpoint)), Is.All.EqualTo(mechanism == ProbeMechanism.Auto ? (1, 0) : (0, 1)));
    }

    [Test]
    public async Task RecordsOfATreeAreReadAsTheyCome()
    {
        List<(int Process, int Code)> exits = [];
        List<Task> reading = [];
        StandingResult<ProbeRecords<int>> standing = await Tracer.EnableAsync(
            ProbeQuery.On("libc.so.6:_exit:entry").Record(c => (int)c.Arg(0)),
            started: (process, records) =>
            {
                lock (exits)
                {
                    reading.Add(ReadAsync(process, records));
                }
            });
        using PrivateDirectory directory = new("standing");
        TracedProcess shell = await Tracer.CreateAsync(
            "/bin/sh", ["-c", "for i in 1 2 3 4; do (exit $i); done; /bin/true; exit 9"], new CreateOptions { FollowChildren = true, StandardOutput = directory["out"], StopAt = CreateStop.Exec });
        await shell.ResumeAsync();
        Assert.That((await shell.Completion.WaitAsync(Patience)).ExitCode, Is.EqualTo(9));
        await standing.DisposeAsync();
        await Task.WhenAll(reading).WaitAsync(Patience);
        Assert.That(exits.Select(e => e.Code).Order(), Is.EqualTo(new[] { 0, 1, 2, 3, 4, 9 }));
        Assert.That(exits.Select(e => e.Process).Distinct().Count(), Is.EqualTo(6));
        Assert.That(standing.Count, Is.EqualTo(6));

        async Task ReadAsync(TracedProcess process, ProbeRecords<int> records)
        {
            await foreach (ProbeRecord<int> record in records.ReadAllAsync())
            {
                lock (exits)
                {
                    exits.Add((process.ProcessId, record.Value));
                }
            }
        }
    }

    [Test]
    public async Task LatenciesStandByBothOfTheirDescriptions()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", arguments: ["2"]);
        await Tracer.AttachAsync(target.ProcessId);
        StandingResult<ProbeLatencies> times = await Tracer.EnableAsync(ProbeQuery.On("a.out:hot:entry").Latency());
        Assert.That(target.SendAndReadCount("go 100", "hot"), Is.EqualTo(200));
        await times.DisposeAsync();
        ProbeLatencies latencies = times.Members.Single().Value;
        Assert.That((latencies.Count, latencies.ReturnCount), Is.EqualTo((200L, 200L)));
        TextCheck.AssertClean(target.ProcessId);
    }

    /// <summary>One that is traced by another tracer.</summary>
    [Test]
    public async Task OfATreeWhatIsRefusedIsLeftOutAndListed()
    {
        using TargetProcess shell = TargetProcess.Start("/bin/sh", ["-c", "sleep 1000 & sleep 1000 & echo inner $!; wait"]);
        int taken = int.Parse(shell.ReadLineStarting("inner ").Split(' ')[1], null);
        await using Tracer other = new();
        try
        {
            TracedProcess child = await other.AttachAsync(taken);
            TracedProcess root = await Tracer.AttachAsync(shell.ProcessId, new AttachOptions { IncludeDescendants = true });
            Assert.That(root.RefusedDescendants.Select(r => (r.Error, r.ProcessId)), Is.EqualTo(new[] { (FastTrapError.AlreadyTraced, taken) }));
            Assert.That(Tracer.Processes, Has.Count.EqualTo(2), "the shell and its first child");
            await child.DisposeAsync();
        }
        finally
        {
            int[] ids = [taken, .. Tracer.Processes.Select(p => p.ProcessId).Where(id => id != shell.ProcessId)];
            await Tracer.DisposeAsync();
            Command.Run("/bin/sh", ["-c", $"kill {string.Join(' ', ids)}"], Patience);
        }

        shell.WaitForExit();
    }
}
