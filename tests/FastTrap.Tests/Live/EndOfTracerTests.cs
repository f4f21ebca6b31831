using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>A tracer ends in the middle of its work, having disposed nothing: its target lives on, with clean text.</summary>
[TestFixture]
public sealed class EndOfTracerTests : LiveTest
{
    /// <summary>One for each set of descriptions.</summary>
    private const int Rounds = 3;

    // Few: they leave no time to the tracer's start, each being busy without end.
    private const int Threads = 4;

    /// <summary>The stimulus is a moment that nobody has chosen: while it starts, attaches, enables, is enabled, disables or detaches.</summary>
    [TestCase(9, TestName = "EndsAtRandomMoments")]
    [TestCase(200, TestName = "EndsAtTwoHundredRandomMoments", Explicit = true, Reason = "minutes")]
    public void TargetLivesOnWheneverTheTracerEnds(int rounds)
    {
        using PrivateDirectory directory = new("end");
        using TargetProcess target = TargetProcess.StartTarget("threads", null, [$"{Threads}"], new TargetStart { Timeout = TimeSpan.FromMinutes(20) });
        target.SendLine("run");
        target.ReadLineStarting("running");
        Random random = new(20_240_601 + rounds);
        for (int round = 0; round < rounds; round++)
        {
            int signal = new[] { 15, 2, 0 }[round % 3];
            int milliseconds = random.Next(1, 900);
            string[] descriptions = round % 2 == 0 ? ["a.out:hot:*", "a.out:work:*"] : ["a.out:*:entry", "libc.so.6:*:entry"];
            using TargetProcess tracer = SeparateTracer.Start(directory, ["restless", $"{target.ProcessId}", $"{(signal == 0 ? milliseconds : 0)}", .. descriptions]);
            if (signal != 0)
            {
                tracer.TryWaitForExit(TimeSpan.FromMilliseconds(milliseconds));
                Assert.That(tracer.Signal(signal), Is.True, tracer.Errors);
            }

            TargetExit exit = tracer.WaitForExit();

            // Code 1: what it was about to enable was refused, because the tracer was ending.
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

    [TestCase("wait", 15, TestName = "SigtermReleasesTheTarget")]
    [TestCase("wait", 2, TestName = "SigintReleasesTheTarget")]
    [TestCase("wait", 1, TestName = "SighupReleasesTheTarget")]
    [TestCase("throw", 0, TestName = "UnhandledExceptionReleasesTheTarget")]
    [TestCase("return", 0, TestName = "ReturnFromMainReleasesTheTarget")]
    [TestCase("exit", 0, TestName = "ExitReleasesTheTarget")]
    public void TargetLivesOn(string end, int signal)
    {
        using PrivateDirectory directory = new("end");
        using TargetProcess target = TargetProcess.StartTarget("threads", null, [$"{Threads}"]);
        target.SendLine("run");
        target.ReadLineStarting("running");
        for (int round = 0; round < Rounds; round++)
        {
            string[] descriptions = (round % 3) switch
            {
                0 => ["a.out:hot:entry", "a.out:hot:return"],
                1 => ["a.out:hot:*", "a.out:work:*"],
                _ => ["a.out:*:entry", "libc.so.6:*:entry"],
            };
            using TargetProcess tracer = SeparateTracer.Start(directory, ["busy", $"{target.ProcessId}", end, .. descriptions]);
            Assert.That(tracer.ReadLine(), Is.EqualTo("busy"), () => tracer.Errors);
            if (signal != 0)
            {
                Assert.That(tracer.Signal(signal), Is.True);
            }

            TargetExit exit = tracer.WaitForExit();
            TargetExit[] expected = end switch
            {
                "wait" => [new TargetExit(128 + signal, 0), new TargetExit(0, signal)],
                "throw" => [new TargetExit(134, 0), new TargetExit(0, 6)],
                "exit" => [new TargetExit(4, 0)],
                _ => [new TargetExit(3, 0)],
            };
            Assert.That(exit, Is.AnyOf([.. expected.Cast<object>()]), tracer.Errors);
            if (end == "throw")
            {
                Assert.That(tracer.Errors, Does.Contain("on purpose"));
            }

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
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    [Test]
    public void TargetDiesWithATracerThatIsKilledIfItIsToDoSo()
    {
        using PrivateDirectory directory = new("die");
        using TargetProcess target = TargetProcess.StartTarget("threads", null, [$"{Threads}"]);
        target.SendLine("run");
        target.ReadLineStarting("running");
        using TargetProcess tracer = SeparateTracer.Start(directory, ["busy", $"{target.ProcessId}", "die", "a.out:hot:*"]);
        Assert.That(tracer.ReadLine(), Is.EqualTo("busy"), () => tracer.Errors);
        Assert.That(tracer.Signal(9), Is.True);
        Assert.That(tracer.WaitForExit(), Is.EqualTo(new TargetExit(0, 9)));
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 9)), "killed, not run into a trap");
    }
}
