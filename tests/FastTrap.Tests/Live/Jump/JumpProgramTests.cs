using System.Diagnostics;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>All functions of whole libraries armed by jumps while real programs are busy: they print the same, live, and get their text back.</summary>
[TestFixture]
public sealed class JumpProgramTests : LiveTest
{
    [Test]
    public async Task PythonWithAllOfLibc()
    {
        using TargetProcess python = RealPrograms.StartPython(BusyPrograms.Python);
        python.SendLine("0");
        string digest = python.ReadLineStarting("digest ");
        TracedProcess process = await Tracer.AttachAsync(python.ProcessId);
        const int Rounds = 3;
        for (int round = 0; round < Rounds; round++)
        {
            // It reads the next order when it has done the last: there is work while probes come, and when they are there.
            python.SendLine("1");
            ProbeSum entries = await EnableTimed(process, "pid*:libc.so.6:*:entry");
            ProbeSum returns = await EnableTimed(process, "pid*:libc.so.6:*:return");
            python.SendLine("1");
            WaitUntil(() => entries.Count > 1000 && returns.Count > 1000, "hits");
            Assert.That(entries.Mechanisms.Jump, Is.GreaterThan(2000));
            Assert.That(returns.Mechanisms.Jump, Is.GreaterThan(2000));
            await entries.DisposeAsync();
            await returns.DisposeAsync();
        }

        for (int order = 0; order < 2 * Rounds; order++)
        {
            Assert.That(python.ReadLineStarting("digest "), Is.EqualTo(digest));
        }

        await process.DisposeAsync();
        TextCheck.AssertClean(python.ProcessId);
        python.SendLine("-1");
        Assert.That(python.WaitForExit(), Is.EqualTo(new TargetExit(6, 0)), python.Errors);
        Assert.That(python.Errors, Is.Empty);
    }

    /// <summary>At moments that nobody has chosen: while it arms, is armed, disarms, attaches or detaches.</summary>
    [TestCase(6)]
    [TestCase(100, Explicit = true, Reason = "minutes")]
    public void TheTargetLivesOnWheneverTheTracerEnds(int rounds)
    {
        const int Threads = 4;
        using PrivateDirectory directory = new("jump-end");
        using TargetProcess target = TargetProcess.StartTarget("threads", null, [$"{Threads}"], new TargetStart { Timeout = TimeSpan.FromMinutes(20) });
        target.SendLine("run");
        target.ReadLineStarting("running");
        Random random = new(20_261_122 + rounds);
        for (int round = 0; round < rounds; round++)
        {
            int signal = round % 2 == 0 ? 15 : 0;
            int milliseconds = random.Next(200, 1200);
            using TargetProcess tracer = SeparateTracer.Start(
                directory, ["jumpy", $"{target.ProcessId}", $"{(signal == 0 ? milliseconds : 0)}", "a.out:*:entry", "libc.so.6:*:entry", "a.out:hot:return"]);
            if (signal != 0)
            {
                tracer.TryWaitForExit(TimeSpan.FromMilliseconds(milliseconds));
                Assert.That(tracer.Signal(signal), Is.True, tracer.Errors);
            }

            TargetExit exit = tracer.WaitForExit();
            Assert.That(exit, Is.AnyOf(new TargetExit(128 + signal, 0), new TargetExit(0, signal), new TargetExit(134, 0), new TargetExit(0, 6), new TargetExit(1, 0)), tracer.Errors);
            TextCheck.AssertClean(target.ProcessId);
            target.SendLine("phase");
            target.ReadLineStarting("phase hot ");
            Assert.That(File.ReadAllLines($"/proc/{target.ProcessId}/status"), Has.Member("TracerPid:\t0"));
        }

        target.SendLine("stop");
        target.ReadCount("hot");
        Assert.That(target.SendAndReadCount("go 5", "hot"), Is.EqualTo(5 * Threads));
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    private static async Task<ProbeSum> EnableTimed(TracedProcess process, string description)
    {
        long start = Stopwatch.GetTimestamp();
        ProbeSum hits = await process.On(description).Count().EnableAsync();
        TestContext.Out.WriteLine(
            $"{description}: {Stopwatch.GetElapsedTime(start).TotalMilliseconds:f0} ms; jump {hits.Mechanisms.Jump}, breakpoint {hits.Mechanisms.Breakpoint}: {string.Join("; ", hits.Mechanisms.Reasons.OrderByDescending(r => r.Value).Select(r => $"{r.Value} {r.Key}"))}");
        return hits;
    }
}
