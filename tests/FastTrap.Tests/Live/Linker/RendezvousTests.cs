using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live.Linker;

/// <summary>Where created programs wait: what has run by then, they say themselves.</summary>
[TestFixture]
public sealed class RendezvousTests : LinkerTest
{
    [TestCase("pie", "", "L", "L", "LP")]
    [TestCase("fixed", "", "L", "L", "LP")]
    [TestCase("pie stripped", "", "L", "L", "LP")]
    [TestCase("fixed stripped", "", "L", "L", "LP")]
    [TestCase("pie linker", "", "L", "L", "LP")]
    [TestCase("fixed linker", "", "L", "L", "LP")]
    [TestCase("pie linker stripped", "", "L", "L", "LP")]
    [TestCase("static", "", "", "", "*")]
    [TestCase("static-pie", "", "", "", "*")]
    [TestCase("static stripped", "", "", "", null)]
    [TestCase("static-pie stripped", "", "", "", null)]
    [TestCase("musl pie", "", "", "LP", "LP")]
    [TestCase("musl fixed stripped", "", "", "LP", "LP")]
    [TestCase("musl pie linker", "", "", "LP", "LP")]
    [TestCase("musl static", "", "", "", "*")]
    public async Task ProgramsStandWhereTheyAreWanted(string ways, string atPreInit, string atEntry, string atPostInit, string? atMain)
    {
        using PrivateDirectory directory = new("rendezvous");
        StartedProgram program = StartedProgram.Build(directory, ways);
        await RunAsync(CreateStop.Exec, "");
        await RunAsync(CreateStop.PreInit, atPreInit);
        await RunAsync(CreateStop.Entry, atEntry);
        await RunAsync(CreateStop.PostInit, atPostInit);
        if (atMain is not null)
        {
            await RunAsync(CreateStop.Main, atMain);
            return;
        }

        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => RunAsync(CreateStop.Main, ""));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.StopUnavailable));
        Assert.That(error.Message, Does.Contain("CreateStop.Entry"));
        Assert.That(Leftovers.Find(), Has.None.Contains("child process").And.None.Contains("traced thread"));

        async Task RunAsync(CreateStop stop, string expected)
        {
            CreateOptions options = new() { StopAt = stop, StandardOutput = directory["out"], StandardError = directory["err"] };
            TracedProcess process = await Tracer.CreateAsync(program.Path, program.Arguments, options);
            string said = File.ReadAllText(directory["out"]);

            // The order of constructors within one file is the compiler's business.
            Assert.That(said, expected == "*" ? Is.EqualTo("LP").Or.EqualTo("PL") : Is.EqualTo(expected), stop.ToString());
            TextCheck.AssertClean(process.ProcessId);
            bool isStripped = ways.Contains("stripped", StringComparison.Ordinal);
            bool isLoaded = stop != CreateStop.Exec && !(isStripped && ways.Contains("static", StringComparison.Ordinal));
            bool isMainKnown = !isStripped && (stop != CreateStop.Exec || !ways.Contains("linker", StringComparison.Ordinal));
            ProbeEnabling? main = isMainKnown ? await process.EnableAsync("program:main:entry", CountOnly) : null;
            ProbeEnabling? called = isLoaded ? await process.EnableAsync("*:library_called:entry", CountOnly) : null;
            await process.ResumeAsync();
            Assert.That(await process.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 5, 0)), File.ReadAllText(directory["err"]));
            said = File.ReadAllText(directory["out"]);
            Assert.That(said, Is.EqualTo("LPM").Or.EqualTo("PLM"));
            Assert.That(main?.HitCount ?? 1, Is.EqualTo(1), $"main from {stop}");
            Assert.That(called?.HitCount ?? 2, Is.EqualTo(expected.Length == 0 ? 2 : 1), $"the library's constructor from {stop}");
            await process.DisposeAsync();
        }
    }

    [Test]
    public async Task ProgramWithoutMainIsRefusedWithTheNextStep()
    {
        using PrivateDirectory directory = new("rendezvous");
        StartedProgram program = StartedProgram.Build(directory, "bare");
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => Tracer.CreateAsync(program.Path, null, new CreateOptions { StopAt = CreateStop.Main }));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.StopUnavailable));
        Assert.That(error.Message, Does.Contain("CreateStop.Entry"));
        foreach (CreateStop stop in new[] { CreateStop.PreInit, CreateStop.PostInit, CreateStop.Entry })
        {
            TracedProcess process = await Tracer.CreateAsync(program.Path, null, new CreateOptions { StopAt = stop });
            await process.ResumeAsync();
            Assert.That((await process.Completion.WaitAsync(Patience)).ExitCode, Is.EqualTo(5));
        }
    }

    [TestCase("pie")]
    [TestCase("pie stripped")]
    [TestCase("pie linker")]
    [TestCase("static")]
    [TestCase("musl pie")]
    public void ProgramThatEndsBeforeIsExplained(string ways)
    {
        using PrivateDirectory directory = new("rendezvous");
        StartedProgram program = StartedProgram.Build(directory, ways);
        CreateOptions options = new()
        {
            StopAt = CreateStop.Main,
            Environment = new Dictionary<string, string> { ["ENDS_EARLY"] = "1" },
            StandardOutput = directory["out"],
        };
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => Tracer.CreateAsync(program.Path, program.Arguments, options));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.CannotStart));
        Assert.That(error.Message, Does.Contain("before its main").And.Contain("ExitCode = 3"));
        Assert.That(Leftovers.Find(), Has.None.Contains("child process").And.None.Contains("traced thread"));
    }

    [Test]
    public async Task ThreadsOfConstructorsRunOnWhileMainWaits()
    {
        const string Source = """
            #include <atomic>
            #include <cstdio>
            #include <thread>
            #include <unistd.h>
            static std::atomic<long> ticks;
            static std::atomic<bool> over;
            extern "C" __attribute__((noipa, used)) void tick(void) { ticks++; }
            struct Starter {
                std::thread threads[3];
                Starter() { for (auto &t : threads) t = std::thread([] { while (!over) { tick(); usleep(50); } }); write(1, "S", 1); }
                ~Starter() { }
                void end() { over = true; for (auto &t : threads) t.join(); }
            } starter;
            int main() { write(1, "M", 1); starter.end(); printf("\ncount tick %ld\n", ticks.load()); return 0; }
            """;
        using PrivateDirectory directory = new("rendezvous");
        await File.WriteAllTextAsync(directory["program.cpp"], Source);
        string? compiler = Command.Find("g++");
        Assume.That(compiler, Is.Not.Null, "g++ is not installed.");
        CommandResult result = Command.Run(compiler!, ["-O1", "-w", "-pthread", "-s", "-rdynamic", "-o", directory["program"], directory["program.cpp"]], TimeSpan.FromMinutes(1));
        Assert.That(result.ExitCode, Is.Zero, result.Error);
        foreach (CreateStop stop in Enum.GetValues<CreateStop>())
        {
            TracedProcess process = await Tracer.CreateAsync(directory["program"], null, new CreateOptions { StopAt = stop, StandardOutput = directory["out"] });
            Assert.That(File.ReadAllText(directory["out"]), Is.EqualTo(stop == CreateStop.Main ? "S" : ""));
            Assert.That(Directory.GetDirectories($"/proc/{process.ProcessId}/task"), Has.Length.EqualTo(stop == CreateStop.Main ? 4 : 1));
            ProbeEnabling tick = await process.EnableAsync("a.out:tick:entry", CountOnly);
            if (stop == CreateStop.Main)
            {
                WaitUntil(() => tick.HitCount > 50, "the threads to go on");
            }

            await process.ResumeAsync();
            Assert.That((await process.Completion.WaitAsync(Patience)).ExitCode, Is.Zero);
            string[] lines = await File.ReadAllLinesAsync(directory["out"]);
            Assert.That(lines[0], Is.EqualTo("SM"));
            long count = long.Parse(lines[1].Split(' ')[2], System.Globalization.CultureInfo.InvariantCulture);
            Assert.That(tick.HitCount, stop == CreateStop.Main ? Is.LessThanOrEqualTo(count) : Is.EqualTo(count));
        }
    }

    [Test]
    public async Task ProgramsOfTheSystemReachTheirMain([Values("/bin/true", "/bin/ls", "/usr/bin/gcc", "/usr/bin/perl")] string path)
    {
        Assume.That(File.Exists(path), $"{path} is not installed.");
        using PrivateDirectory directory = new("rendezvous");
        TracedProcess process = await Tracer.CreateAsync(path, ["--version"], new CreateOptions { StopAt = CreateStop.Main, StandardOutput = directory["out"] });
        Assert.That(File.ReadAllText(directory["out"]), Is.Empty);
        TextCheck.AssertClean(process.ProcessId);
        await process.ResumeAsync();
        Assert.That((await process.Completion.WaitAsync(Patience)).ExitCode, Is.Zero);
    }

    [Test]
    public async Task AuditingLibrariesAreNotTakenForTheProgramsOwn()
    {
        using PrivateDirectory directory = new("rendezvous");
        StartedProgram program = StartedProgram.Build(directory, "pie");
        await File.WriteAllTextAsync(directory["audit.c"], "unsigned la_version(unsigned v) { return v; }");
        CommandResult result = Command.Run(Command.Find("gcc")!, ["-shared", "-fPIC", "-o", directory["libaudit.so"], directory["audit.c"]], TimeSpan.FromMinutes(1));
        Assert.That(result.ExitCode, Is.Zero, result.Error);
        CreateOptions options = new()
        {
            StopAt = CreateStop.PreInit,
            Environment = new Dictionary<string, string> { ["LD_AUDIT"] = directory["libaudit.so"] },
            StandardOutput = directory["out"],
        };
        TracedProcess process = await Tracer.CreateAsync(program.Path, program.Arguments, options);
        ProbeEnabling called = await process.EnableAsync("liblibrary.so:library_called:entry", CountOnly);
        await process.ResumeAsync();
        Assert.That((await process.Completion.WaitAsync(Patience)).ExitCode, Is.EqualTo(5));
        Assert.That(called.HitCount, Is.EqualTo(2));
    }
}
