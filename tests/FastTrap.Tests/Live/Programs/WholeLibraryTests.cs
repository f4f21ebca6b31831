using System.Runtime.InteropServices;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>All functions of a whole library probed at once in a busy program: it lives, prints the same, and gets its text back.</summary>
[TestFixture]
public sealed class WholeLibraryTests : LiveTest
{
    private const int HeldSeconds = 4;

    /// <summary>Longer than all rounds take.</summary>
    private const int BusySeconds = 5;

    [Test]
    public async Task PythonWithAllOfLibc()
    {
        string digest;
        using (TargetProcess alone = RealPrograms.StartPython(BusyPrograms.Python))
        {
            alone.SendLine("0");
            digest = alone.ReadLineStarting("digest ");
            alone.SendLine("-1");
            Assert.That(alone.WaitForExit(), Is.EqualTo(new TargetExit(6, 0)), alone.Errors);
        }

        using TargetProcess python = RealPrograms.StartPython(BusyPrograms.Python);
        TracedProcess process = await Tracer.AttachAsync(python.ProcessId);
        IReadOnlyList<ProbeEnabling> enablings = await EnableAllOfLibc(process);
        python.SendLine($"{HeldSeconds}");
        Assert.That(python.ReadLineStarting("digest "), Is.EqualTo(digest));
        await process.DisposeAsync();
        Assert.That(enablings[0].HitCount, Is.GreaterThan(1000));
        Assert.That(enablings[1].HitCount, Is.GreaterThan(1000));
        TextCheck.AssertClean(python.ProcessId);
        python.SendLine("1");
        Assert.That(python.ReadLineStarting("digest "), Is.EqualTo(digest));
        python.SendLine("-1");
        Assert.That(python.WaitForExit(), Is.EqualTo(new TargetExit(6, 0)), python.Errors);
        Assert.That(python.Errors, Is.Empty);
    }

    [Test]
    public async Task EnablingAndDisablingAllOfLibcWhilePythonIsBusy()
    {
        using TargetProcess python = RealPrograms.StartPython(BusyPrograms.Python);
        python.SendLine("0");
        string digest = python.ReadLineStarting("digest ");
        TracedProcess process = await Tracer.AttachAsync(python.ProcessId);
        python.SendLine($"{BusySeconds}");
        for (int round = 0; round < 5; round++)
        {
            IReadOnlyList<ProbeEnabling> enablings = await EnableAllOfLibc(process);
            WaitUntil(() => enablings.All(enabling => enabling.HitCount > 100), "hits");
            await enablings[round % 2].DisposeAsync();
            await enablings[(round + 1) % 2].DisposeAsync();
        }

        Assert.That(python.ReadLineStarting("digest "), Is.EqualTo(digest));
        await process.DisposeAsync();
        TextCheck.AssertClean(python.ProcessId);
        python.SendLine("-1");
        Assert.That(python.WaitForExit(), Is.EqualTo(new TargetExit(6, 0)), python.Errors);
    }

    [Test]
    public async Task ThreadedProgramWithAllOfLibc()
    {
        string[] arguments = ["6", "250"];
        IReadOnlyList<string> alone = RunAlone("threadedcpp", null, arguments);
        using TargetProcess target = TargetProcess.StartTarget("threadedcpp", null, arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        IReadOnlyList<ProbeEnabling> enablings = await EnableAllOfLibc(process);
        target.SendLine("go");
        target.ReadLineStarting("checksum ");
        await process.DisposeAsync();
        Assert.That(enablings[0].HitCount, Is.GreaterThan(1000));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(Comparable(target.Lines), Is.EqualTo(alone));
    }

    [Test]
    public async Task JavaWithAllEntriesOfLibjvm()
    {
        using PrivateDirectory directory = new("java");
        using TargetProcess java = BusyPrograms.StartJava(directory);
        java.SendLine("work");
        string result = java.ReadLineStarting("result ");
        TracedProcess process = await Tracer.AttachAsync(java.ProcessId);
        ProbeEnabling enabling = await process.EnableAsync("libjvm.so:*:entry", CountOnly);
        AssertRefusalsAreExplained(enabling);
        java.SendLine("work");
        Assert.That(java.ReadLineStarting("result "), Is.EqualTo(result));
        await process.DisposeAsync();
        TestContext.Out.WriteLine($"{enabling.Probes.Count} probes, {enabling.HitCount} hits");
        Assert.That(enabling.HitCount, Is.GreaterThan(100));
        TextCheck.AssertClean(java.ProcessId);
        java.SendLine("work");
        Assert.That(java.ReadLineStarting("result "), Is.EqualTo(result));
        java.SendLine("");
        Assert.That(java.WaitForExit(), Is.EqualTo(new TargetExit(8, 0)), java.Errors);
    }

    [Test]
    public async Task DotnetCreatedWithProbesOfLibc()
    {
        string dotnet = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", "dotnet"));
        CommandResult alone = Command.Run(dotnet, ["--info"], TimeSpan.FromMinutes(1));
        Assert.That(alone.ExitCode, Is.Zero, alone.Error);
        using PrivateDirectory directory = new("dotnet");
        TracedProcess process = await Tracer.CreateAsync(dotnet, ["--info"], new CreateOptions { StandardOutput = directory["out"] });
        IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync(
            [new ProbeRequest("libc.so.6:malloc:entry", CountOnly), new ProbeRequest("libc.so.6:pthread_*:return", CountOnly)]);
        await process.ResumeAsync();
        Assert.That(await process.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)));
        Assert.That(File.ReadAllText(directory["out"]), Is.EqualTo(alone.Output));
        Assert.That(enablings.Select(enabling => enabling.HitCount), Is.All.GreaterThan(0));
    }

    private static async Task<IReadOnlyList<ProbeEnabling>> EnableAllOfLibc(TracedProcess process)
    {
        IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync(
            [new ProbeRequest("pid*:libc.so.6:*:entry", CountOnly), new ProbeRequest("pid*:libc.so.6:*:return", CountOnly)]);
        foreach (ProbeEnabling enabling in enablings)
        {
            AssertRefusalsAreExplained(enabling);
            Assert.That(enabling.Probes, Has.Count.GreaterThan(2000));
            TestContext.Out.WriteLine($"{enabling.Description}: {enabling.Probes.Count} enabled, refused {string.Join(", ", enabling.Failures.GroupBy(f => f.Refusal).Select(g => $"{g.Key} {g.Count()}"))}");
        }

        return enablings;
    }

    private static void AssertRefusalsAreExplained(ProbeEnabling enabling)
    {
        foreach (ProbeFailure failure in enabling.Failures)
        {
            Assert.That(failure.Refusal, Is.Not.EqualTo(ProbeRefusal.None), failure.ToString());
            Assert.That(failure.Message, Has.Length.GreaterThan(20), failure.ToString());
            Assert.That(failure.Probe, Does.StartWith("pid"));
            Assert.That(enabling.Probes.Select(probe => probe.ToString()), Has.None.EqualTo(failure.Probe), "both enabled and refused");
        }

        Assert.That(enabling.Failures, Has.Count.LessThan(enabling.Probes.Count / 4));
    }
}
