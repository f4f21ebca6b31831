using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live;

/// <summary>Programs which the tracer starts itself: where they wait, what they print, how they end, and what is left of them.</summary>
[TestFixture]
public sealed class CreateTests : LiveTest
{
    private static IEnumerable<object> Variants => TargetVariant.All;

    [Test]
    public async Task StreamsAndExitCodeAreTheProgramsOwn([Values] CreateStop stop)
    {
        using PrivateDirectory directory = new("create");
        await File.WriteAllTextAsync(directory["in"], "from a file\n");
        await File.WriteAllTextAsync(directory["out"], "what was there before, and is longer than what comes");
        CreateOptions options = new()
        {
            StopAt = stop,
            WorkingDirectory = directory.FullPath,
            Environment = new Dictionary<string, string> { ["PATH"] = "/usr/bin:/bin", ["GREETING"] = "hello" },
            StandardInput = directory["in"],
            StandardOutput = directory["out"],
            StandardError = directory["err"],
        };
        TracedProcess process = await Tracer.CreateAsync("sh", ["-c", "read line; echo \"$GREETING $line $1\"; pwd; env | sort | grep -v ^_; echo bad >&2; exit 42", "sh", "an argument"], options);
        Assert.That(process.WasCreated, Is.True);
        Assert.That(File.ReadAllText(directory["out"]), Is.Empty, "it has run already");
        Assert.That(process.Completion.IsCompleted, Is.False);
        await process.ResumeAsync();
        await process.ResumeAsync();
        ProcessExit exit = await process.Completion.WaitAsync(Patience);
        Assert.That(exit, Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 42, 0)));
        Assert.That(
            File.ReadAllText(directory["out"]),
            Is.EqualTo($"hello from a file an argument\n{directory.FullPath}\nGREETING=hello\nPATH=/usr/bin:/bin\nPWD={directory.FullPath}\n"));
        Assert.That(File.ReadAllText(directory["err"]), Is.EqualTo("bad\n"));
        Assert.That(Directory.Exists($"/proc/{process.ProcessId}"), Is.False, "it was not reaped");
        await process.DisposeAsync();
    }

    [TestCase(15)]
    [TestCase(9)]
    [TestCase(11)]
    [TestCase(5)]
    public async Task KillingSignalIsReported(int signal)
    {
        using PrivateDirectory directory = new("create");
        TracedProcess process = await Tracer.CreateAsync("/bin/sh", ["-c", $"kill -{signal} $$; echo never"], Output(directory));
        await process.ResumeAsync();
        ProcessExit exit = await process.Completion.WaitAsync(Patience);
        Assert.That(exit, Is.EqualTo(new ProcessExit(ProcessExitKind.Killed, 0, signal)));
        Assert.That(exit.ShellExitCode, Is.EqualTo(128 + signal));
        Assert.That(File.ReadAllText(directory["out"]), Is.Empty);
    }

    [TestCaseSource(nameof(Variants))]
    public async Task CountsFromTheVeryStartAreTheProgramsOwn(object variantObject)
    {
        TargetVariant variant = (TargetVariant)variantObject;
        foreach (CreateStop stop in Enum.GetValues<CreateStop>())
        {
            using PrivateDirectory directory = new("create");
            TracedProcess process = await Tracer.CreateAsync(TargetBuilder.Build("calls", variant), ["3", "40", "23"], Output(directory, stop));
            string[] functions = ["args0", "args4", "args10", "recurse", "main"];
            IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync(
                [.. functions.SelectMany(f => new[] { new ProbeRequest($"a.out:{f}:entry", CountOnly), new ProbeRequest($"a.out:{f}:return", CountOnly) })]);
            await process.ResumeAsync();
            ProcessExit exit = await process.Completion.WaitAsync(Patience);
            string[] lines = await File.ReadAllLinesAsync(directory["out"]);
            Assert.That(exit, Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 23, 0)), string.Join('\n', lines));
            Assert.Multiple(() =>
            {
                for (int i = 0; i < functions.Length; i++)
                {
                    string prefix = $"count {functions[i]} ";
                    long own = functions[i] == "main" ? 1 : long.Parse(lines.First(line => line.StartsWith(prefix, StringComparison.Ordinal))[prefix.Length..]);
                    Assert.That(own, Is.GreaterThan(0));
                    Assert.That(enablings[2 * i].HitCount, Is.EqualTo(own), $"{functions[i]}:entry from {stop}");
                    Assert.That(enablings[(2 * i) + 1].HitCount, Is.EqualTo(own), $"{functions[i]}:return from {stop}");
                }
            });
        }
    }

    [Test]
    public async Task LibrariesAreThereAtTheEntryAndNotAtTheExec()
    {
        using PrivateDirectory directory = new("create");
        TracedProcess atExec = await Tracer.CreateAsync(TargetBuilder.Build("calls"), ["1", "1"], Output(directory, CreateStop.Exec));
        Assert.That(await atExec.ListAsync("libc.so.6:malloc:entry"), Is.Empty);
        Assert.That(await atExec.ListAsync("a.out:main:entry"), Has.Count.EqualTo(1));
        Assert.That(atExec.ExecutablePath, Is.EqualTo(TargetBuilder.Build("calls")));
        TracedProcess atEntry = await Tracer.CreateAsync(TargetBuilder.Build("calls"), ["1", "1"], Output(directory));
        Assert.That(await atEntry.ListAsync("libc.so.6:malloc:entry"), Has.Count.EqualTo(1));
        ProbeEnabling begin = await atEntry.EnableAsync("libc.so.6:__libc_start_main:entry", CountOnly);
        ProbeEnabling main = await atEntry.EnableAsync("a.out:main:entry", new ProbeOptions { StackDepth = 0 });
        Assert.That(main.HitCount, Is.Zero);
        await atEntry.ResumeAsync();
        Assert.That((await atEntry.Completion.WaitAsync(Patience)).ExitCode, Is.Zero);
        Assert.That((begin.HitCount, main.HitCount), Is.EqualTo((1L, 1L)));
        await foreach (ProbeHit hit in main.ReadAllAsync())
        {
            // argc of "calls 1 1".
            Assert.That(hit.Arguments[0], Is.EqualTo(3));
        }
    }

    [TestCase("/nonexistent/program", "no such file")]
    [TestCase("fasttrap-no-such-program", "no directory of PATH")]
    [TestCase("FILE", "not executable")]
    [TestCase("/tmp", "not executable")]
    [TestCase("GARBAGE", "no program")]
    [TestCase("NOINTERPRETER", "interpreter")]
    public void WhatCannotBeStartedIsExplained(string path, string what)
    {
        using PrivateDirectory directory = new("create");
        File.WriteAllText(directory["FILE"], "#!/bin/sh\nexit 0\n");
        File.WriteAllText(directory["GARBAGE"], "\u0001\u0002 garbage\n");
        File.WriteAllText(directory["NOINTERPRETER"], "#!/nonexistent/interpreter\n");
        foreach (string name in new[] { "GARBAGE", "NOINTERPRETER" })
        {
            File.SetUnixFileMode(directory[name], UnixFileMode.UserRead | UnixFileMode.UserExecute);
        }

        string full = char.IsAsciiLetterUpper(path[0]) ? directory[path] : path;
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => Tracer.CreateAsync(full, null, Output(directory)));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.CannotStart), error.Message);
        Assert.That(error.Message, Does.Contain(full).And.Contain(what));
        Assert.That(error.ErrorNumber, Is.GreaterThan(0));
        Assert.That(Leftovers.Find(), Has.None.Contains("child process").And.None.Contains("traced thread"));
    }

    [Test]
    public void WrongPlacesAreExplained()
    {
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(
            () => Tracer.CreateAsync("/bin/true", null, new CreateOptions { WorkingDirectory = "/nonexistent" }));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.CannotStart));
        Assert.That(error.Message, Does.Contain("working directory"));
        error = Assert.ThrowsAsync<FastTrapException>(() => Tracer.CreateAsync("/bin/true", null, new CreateOptions { StandardOutput = "/nonexistent/out" }));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.CannotStart));
        error = Assert.ThrowsAsync<FastTrapException>(() => Tracer.CreateAsync("/bin/true", null, new CreateOptions { StandardInput = "/nonexistent/in" }));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.CannotStart));
        Assert.ThrowsAsync<ArgumentException>(() => Tracer.CreateAsync(""));
        Assert.ThrowsAsync<ArgumentException>(() => Tracer.CreateAsync("/bin/true", ["zero\0character"]));
        Assert.That(Leftovers.Find(), Has.None.Contains("child process").And.None.Contains("traced thread"));
    }

    [Test]
    public async Task ProgramWithoutItsLibraryCannotStart()
    {
        using PrivateDirectory directory = new("create");
        await File.WriteAllTextAsync(directory["gone.c"], "int gone(void) { return 1; }");
        await File.WriteAllTextAsync(directory["main.c"], "int gone(void); int main(void) { return gone(); }");
        string gcc = Command.Find("gcc") ?? throw new InvalidOperationException("gcc is not installed; the native targets of the tests need it.");
        Compile("-shared", "-fPIC", "-o", directory["libgone.so"], directory["gone.c"]);
        Compile("-o", directory["main"], directory["main.c"], directory["libgone.so"]);
        File.Delete(directory["libgone.so"]);
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => Tracer.CreateAsync(directory["main"], null, Output(directory)));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.CannotStart));
        Assert.That(error.Message, Does.Contain("library may be missing"));
        Assert.That(File.ReadAllText(directory["err"]), Does.Contain("libgone.so"));
        Assert.That(Leftovers.Find(), Has.None.Contains("child process").And.None.Contains("traced thread"));

        void Compile(params string[] arguments)
        {
            CommandResult result = Command.Run(gcc, arguments, TimeSpan.FromMinutes(1));
            Assert.That(result.ExitCode, Is.Zero, result.Error);
        }
    }

    [Test]
    public async Task DisposeKillsWhatItCreated([Values] CreateStop stop, [Values] bool resumed)
    {
        using PrivateDirectory directory = new("create");
        TracedProcess process = await Tracer.CreateAsync("/bin/sh", ["-c", "echo begun; while :; do :; done"], Output(directory, stop));
        if (resumed)
        {
            await process.EnableAsync("a.out:[a-z]*:entry", CountOnly).ContinueWith(static task => task.Exception, TaskScheduler.Default);
            await process.ResumeAsync();
            WaitUntil(() => File.ReadAllText(directory["out"]) == "begun\n", "the program to begin");
        }

        await process.DisposeAsync();
        Assert.That(await process.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Killed, 0, 9)));
        Assert.That(Directory.Exists($"/proc/{process.ProcessId}"), Is.False);
        Assert.That(File.ReadAllText(directory["out"]), Is.EqualTo(resumed ? "begun\n" : ""));
    }

    [Test]
    public async Task DisposeLetsRunOnWhatMayLive([Values] CreateStop stop, [Values] bool resumed)
    {
        using PrivateDirectory directory = new("create");
        Dictionary<string, string> environment = new() { ["TARGET_NOWAIT"] = "1" };
        CreateOptions options = new() { StopAt = stop, KillOnDispose = false, Environment = environment, StandardOutput = directory["out"], StandardError = directory["err"] };
        TracedProcess process = await Tracer.CreateAsync(TargetBuilder.Build("hashing"), ["4000000", "4"], options);
        await process.EnableAsync("a.out:*:entry", CountOnly);
        if (resumed)
        {
            await process.ResumeAsync();
            WaitUntil(() => File.ReadAllText(directory["out"]).Contains("ready", StringComparison.Ordinal), "the program to begin");
        }

        await process.DisposeAsync();
        int status = Posix.WaitForChild(process.ProcessId);
        Assert.That(status, Is.Zero, File.ReadAllText(directory["out"]));
        Assert.That(File.ReadAllText(directory["out"]), Does.Contain("count sha256_block").And.Contain("exit 0"));
    }

    [Test]
    public async Task ManyCreationsLeaveNoDescriptorsAndNoThreads()
    {
        using PrivateDirectory directory = new("create");
        await RunAsync(5);
        int descriptors = Directory.GetFileSystemEntries("/proc/self/fd").Length;
        await RunAsync(25);
        Assert.That(Directory.GetFileSystemEntries("/proc/self/fd"), Has.Length.LessThan(descriptors + 10));
        WaitUntil(() => !Directory.GetDirectories("/proc/self/task").Any(IsOurs), "the threads of the library end");
        Assert.That(Leftovers.Find(), Has.None.Contains("child process").And.None.Contains("traced thread"));

        static bool IsOurs(string thread)
        {
            try
            {
                return File.ReadAllText(Path.Combine(thread, "comm")).StartsWith("FastTrap", StringComparison.Ordinal);
            }
            catch (IOException)
            {
                return false;
            }
        }

        async Task RunAsync(int number)
        {
            for (int i = 0; i < number; i++)
            {
                TracedProcess process = await Tracer.CreateAsync("/bin/echo", [$"{i}"], Output(directory));
                await process.EnableAsync("libc.so.6:write:entry", CountOnly);
                await process.ResumeAsync();
                Assert.That(await process.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)));
                await process.DisposeAsync();
                Assert.That(File.ReadAllText(directory["out"]), Is.EqualTo($"{i}\n"));
            }
        }
    }

    /// <summary>Options of a target that waits for no command and writes into files.</summary>
    private static CreateOptions Output(PrivateDirectory directory, CreateStop stop = CreateStop.Entry) => new()
    {
        StopAt = stop,
        Environment = new Dictionary<string, string> { ["TARGET_NOWAIT"] = "1", ["PATH"] = "/usr/bin:/bin" },
        StandardInput = "/dev/null",
        StandardOutput = directory["out"],
        StandardError = directory["err"],
    };
}
