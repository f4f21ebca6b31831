using System.Globalization;
using FastTrap.Engine.Mechanisms;
using FastTrap.Native;
using FastTrap.Tests.Faults;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>A tracer is killed by SIGKILL, at any moment: its target goes on unharmed, checking its own work, and the next tracer finds what was left and removes it.</summary>
[TestFixture]
public sealed class KillTests : LiveTest
{
    private static readonly string[] s_descriptions = ["a.out:plain:entry", "a.out:peek:entry", "a.out:mix:*", "a.out:*:return", "libc.so.6:*:entry"];

    private static readonly string[] s_mechanisms = ["Jump", "Auto", "InProcessTrap"];

    [Test]
    public async Task WhatAKilledTracerLeavesWorksOnAndIsRemovedByTheNext()
    {
        using PrivateDirectory directory = new("kill");
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        int ownerProcessId = Kill(directory, target, "armed", 0, 1, "a.out:*:entry");
        Assert.That(TextCheck.Compare(target.ProcessId), Is.Not.Empty, "nothing was armed");
        AssertGoesOn(target);
        target.SendLine("fork");
        Assert.That(target.ReadLineStarting("child "), Is.EqualTo("child 700"));
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        TestContext.Out.WriteLine(process.Leftovers);
        Assert.That(process.Leftovers, Is.Not.Null);
        Assert.That((process.Leftovers!.OwnerProcessId, process.Leftovers.IsOwnerAlive, process.Leftovers.MappingsLeft), Is.EqualTo((ownerProcessId, false, 0)));
        Assert.That(process.Leftovers.ProbesRemoved, Is.GreaterThan(5));
        AssertClean(target);
        AssertGoesOn(target);

        // It is as if there had been no other.
        await using (ProbeSum calls = await process.On("a.out:plain:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync())
        {
            AssertGoesOn(target);
            Assert.That(calls.Count, Is.Positive);
        }

        await process.DisposeAsync();
        AssertClean(target);
        AssertGoesOn(target);
        await using TracedProcess again = await Tracer.AttachAsync(target.ProcessId);
        Assert.That(again.Leftovers, Is.Null);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    /// <summary>Of the thousand, FASTTRAP_KILL_SEED and FASTTRAP_KILL_ROUNDS choose a part.</summary>
    [TestCase(12, TestName = "KilledAtTwelveRandomMoments")]
    [TestCase(1000, TestName = "KilledAtAThousandRandomMoments", Explicit = true, Reason = "about half an hour")]
    public async Task TargetIsUnharmedWheneverTheTracerIsKilled(int rounds)
    {
        int seed = 20_261_122 + rounds;
        if (rounds == 1000)
        {
            rounds = Setting("FASTTRAP_KILL_ROUNDS", rounds);
            seed = Setting("FASTTRAP_KILL_SEED", seed);
        }

        using PrivateDirectory directory = new("kill");
        using TargetProcess target = TargetProcess.StartTarget("survivor", null, null, new TargetStart { Timeout = TimeSpan.FromMinutes(2) });
        Random random = new(seed);
        TestContext.Out.WriteLine($"seed {seed}");
        int cleaned = 0;
        int left = 0;
        int notClean = 0;
        int whileStanding = 0;
        for (int round = 0; round < rounds; round++)
        {
            // Most while it enables and disables all the while, some from its very beginning on.
            string line = round % 4 == 0 ? "attached" : "looping";
            int milliseconds = random.Next(0, round % 4 == 0 ? 1000 : 500);
            string description = s_descriptions[random.Next(s_descriptions.Length)];
            string mechanism = s_mechanisms[round % s_mechanisms.Length];
            TestContext.Out.WriteLine($"{round}: {description} by {mechanism}, killed {milliseconds} ms after {line}");
            Kill(directory, target, line, milliseconds, 0, description, mechanism);
            AssertGoesOn(target);
            TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
            if (process.Leftovers is { } leftovers)
            {
                whileStanding++;
                cleaned += leftovers.ProbesRemoved;
                left += leftovers.MappingsLeft;
                notClean += leftovers.MappingsLeft == 0 ? 0 : 1;
            }

            TextCheck.AssertClean(target.ProcessId);
            if (process.Leftovers is null or { MappingsLeft: 0 })
            {
                AssertClean(target);
            }

            await process.DisposeAsync();
            AssertGoesOn(target);
        }

        TestContext.Out.WriteLine($"{rounds} kills, {whileStanding} of them while something was there, {cleaned} probes removed, {notClean} cleanings left {left} mappings");
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
        Assert.That(cleaned, Is.Positive);
    }

    /// <summary>Between any two things that it does to the target. FASTTRAP_KILL_STEP: of so many, one.</summary>
    [TestCase(ProbeMechanism.Jump, 5)]
    [TestCase(ProbeMechanism.InProcessTrap, 5)]
    [TestCase(ProbeMechanism.Jump, 0, Explicit = true, Reason = "minutes")]
    [TestCase(ProbeMechanism.InProcessTrap, 0, Explicit = true, Reason = "minutes")]
    public async Task TargetIsUnharmedWhateverTheTracerWasToDoNext(ProbeMechanism mechanism, int deaths)
    {
        using PrivateDirectory directory = new("dying");
        using TargetProcess target = TargetProcess.StartTarget("survivor", null, null, new TargetStart { Timeout = TimeSpan.FromMinutes(2) });
        int changes = RunDying(directory, target, mechanism, 0)!.Value;
        AssertGoesOn(target);
        ulong[] masks = ReadMasks(target.ProcessId);
        for (int i = 0; i < 100; i++)
        {
            // A handler blocks its signal, and who starts a process all of them, for a moment.
            masks = [.. masks.Zip(ReadMasks(target.ProcessId), (a, b) => a & b)];
        }

        int step = deaths == 0 ? Setting("FASTTRAP_KILL_STEP", 1) : changes / deaths;
        int died = 0;
        for (int change = Random.Shared.Next(1, step + 1); change <= changes; change += step)
        {
            TestContext.Out.WriteLine($"killed at change {change} of {changes}");
            if (RunDying(directory, target, mechanism, change) is { } fewer)
            {
                // How many hits there are while traps stand is never the same.
                changes = fewer;
                continue;
            }

            died++;
            WaitUntil(() => ReadMasks(target.ProcessId).SequenceEqual(masks), "the signal masks as they were");
            AssertGoesOn(target);
            await using (TracedProcess process = await Tracer.AttachAsync(target.ProcessId))
            {
                AssertClean(target);
            }

            AssertGoesOn(target);
        }

        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
        Assert.That(died, Is.Positive, $"it was over before {step}");
    }

    /// <summary>With the report the kernel forgets the signal: a thread that has executed a trap which is gone by now would go on behind it, in the middle of an instruction, if the tracer were killed then.</summary>
    [Test]
    public void WhoIsBehindATrapThatIsGoneIsLedBeforeItsReportIsTaken()
    {
        using PrivateDirectory directory = new("gone");
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        Assert.That(RunDying(directory, target, ProbeMechanism.InProcessTrap, FaultyPlatform.GoneTrap), Is.Positive);
        AssertGoesOn(target);
        AssertClean(target);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
    }

    /// <summary>The signal of the trap comes to a thread that was led already: back to where the trap was, and in front of it there may be another.</summary>
    [Test]
    public async Task TargetIsUnharmedWhenAThreadWasLedAndItsReportIsNotTaken()
    {
        using PrivateDirectory directory = new("led");
        using TargetProcess target = TargetProcess.StartTarget("survivor");
        int died = 0;
        for (int round = 0; round < 6; round++)
        {
            died += RunDying(directory, target, ProbeMechanism.InProcessTrap, FaultyPlatform.Led, round % 2 == 0 ? "a.out:mix:*" : "libc.so.6:clock_nanosleep:*") is null ? 1 : 0;
            AssertGoesOn(target);
            await using (await Tracer.AttachAsync(target.ProcessId))
            {
                AssertClean(target);
            }
        }

        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(target.Lines, Has.None.StartsWith("FAIL"));
        Assert.That(died, Is.Positive, "no thread came to a trap just before it was removed");
    }

    /// <summary>What each thread blocks.</summary>
    private static ulong[] ReadMasks(int processId) =>
        [.. Directory.GetDirectories($"/proc/{processId}/task").Order(StringComparer.Ordinal).Select(d => ulong.Parse(
            File.ReadLines($"{d}/status").Single(l => l.StartsWith("SigBlk", StringComparison.Ordinal)).AsSpan()[8..], NumberStyles.HexNumber, CultureInfo.InvariantCulture))];

    /// <summary>Null if it was killed, else how many changes it made.</summary>
    private static int? RunDying(PrivateDirectory directory, TargetProcess target, ProbeMechanism mechanism, int change, string description = "a.out:mix:*")
    {
        using TargetProcess tracer = SeparateTracer.Start(directory, ["dying", $"{target.ProcessId}", $"{mechanism}", $"{change}", "a.out:plain:entry", description, "a.out:plain:entry"]);
        TargetExit exit = tracer.WaitForExit();
        if (exit == new TargetExit(0, 9))
        {
            TestContext.Out.WriteLine(tracer.Lines.Count == 0 ? "" : tracer.Lines[^1]);
            return null;
        }

        Assert.That(exit, Is.EqualTo(new TargetExit(0, 0)), () => $"{string.Join('\n', tracer.Lines)}\n{tracer.Errors}");
        return int.Parse(tracer.Lines.Single(l => l.StartsWith("changes ", StringComparison.Ordinal))[8..], CultureInfo.InvariantCulture);
    }

    [Test]
    public async Task WhatIsWrittenDownOfATrapIsTheInstructionThatIsThereNow()
    {
        using TargetProcess target = TargetProcess.StartTarget("jit", null, ["200"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await using ProbeSum jump = await process.On("a.out:main:entry").WithMechanism(ProbeMechanism.Jump).Count().EnableAsync();
        ProbeEnabling first = await process.EnableAsync("jit:*first*:entry", CountOnly);
        ulong address = first.Probes[0].Address;
        Assert.That(ReadWrittenDown(target.ProcessId, address), Is.EqualTo(new byte[] { 0x8d, 0x04, 0x7f }));
        await first.DisposeAsync();
        target.SendLine("over");
        Assert.That(target.ReadLineStarting("over "), Is.EqualTo($"over 0x{address:x}"));
        ProbeEnabling second = await process.EnableAsync("jit:*third*:entry", CountOnly);
        Assert.That(ReadWrittenDown(target.ProcessId, address), Is.EqualTo(new byte[] { 0x8d, 0x04, 0xbf }));
        target.SendLine("go");
        Assert.That(target.ReadCount("made"), Is.EqualTo(200));
        Assert.That(second.HitCount, Is.EqualTo(200));
        await process.DisposeAsync();
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    private static byte[] ReadWrittenDown(int processId, ulong address)
    {
        List<JumpSite> sites = [];
        foreach (string line in File.ReadLines($"/proc/{processId}/maps").Where(l => l.Contains(JournalLayout.Name, StringComparison.Ordinal)))
        {
            ulong[] range = [.. line.Split(' ')[0].Split('-').Select(w => ulong.Parse(w, NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
            byte[] journal = new byte[range[1] - range[0]];
            Assert.That(LinuxPlatform.Instance.ReadMemory(processId, range[0], journal), Is.EqualTo(journal.Length));
            Assert.That(JournalReader.TryRead(journal, static (_, _) => true, sites, [], out string problem), Is.True, problem);
        }

        return sites.Single(s => s.Start == address).Original;
    }

    private static int Setting(string name, int standard) =>
        Environment.GetEnvironmentVariable(name) is { } text ? int.Parse(text, CultureInfo.InvariantCulture) : standard;

    /// <summary>Starts a tracer, waits for its line, and so many milliseconds, and kills it. Returns its process id.</summary>
    private static int Kill(PrivateDirectory directory, TargetProcess target, string line, int milliseconds, int rounds, string description, string mechanism = "Jump")
    {
        using TargetProcess tracer = SeparateTracer.Start(directory, ["recount", $"{target.ProcessId}", mechanism, $"{rounds}", description]);
        Assert.That(tracer.ReadLine(), Is.EqualTo("attached"), () => tracer.Errors);
        if (line != "attached")
        {
            Assert.That(tracer.ReadLine(), Is.EqualTo(line), () => tracer.Errors);
        }

        Assert.That(tracer.TryWaitForExit(TimeSpan.FromMilliseconds(milliseconds)), Is.False, () => $"{string.Join('\n', tracer.Lines)}\n{tracer.Errors}");
        Assert.That(tracer.Signal(9), Is.True, () => $"it ended before with {tracer.WaitForExit()}: {string.Join('\n', tracer.Lines)}\n{tracer.Errors}");
        Assert.That(tracer.WaitForExit(), Is.EqualTo(new TargetExit(0, 9)));
        return tracer.ProcessId;
    }

    internal static void AssertGoesOn(TargetProcess target)
    {
        target.SendLine("phase");
        target.ReadLineStarting("phase ");
    }

    /// <summary>The text is the file's, and there is no memory and no file of a tracer's any more.</summary>
    internal static void AssertClean(TargetProcess target)
    {
        TextCheck.AssertClean(target.ProcessId);
        Assert.That(File.ReadLines($"/proc/{target.ProcessId}/maps").Where(l => l.Contains("memfd:fasttrap", StringComparison.Ordinal)), Is.Empty);
        Assert.That(
            Directory.GetFileSystemEntries($"/proc/{target.ProcessId}/fd").Select(f => File.ResolveLinkTarget(f, returnFinalTarget: false)?.FullName)
                .Where(n => n?.Contains("memfd:fasttrap", StringComparison.Ordinal) == true), Is.Empty);
    }
}
