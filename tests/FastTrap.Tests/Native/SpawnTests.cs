using System.Runtime.Versioning;
using FastTrap.Native;
using NUnit.Framework;

namespace FastTrap.Tests.Native;

/// <summary>Starting a program seized.</summary>
[TestFixture]
[NonParallelizable]
[SupportedOSPlatform("linux")]
internal sealed class SpawnTests
{
    private static LinuxPlatform Platform => LinuxPlatform.Instance;

    [Test]
    public void StandsInItsExecStopBeforeItsFirstInstruction() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("trap");
        Assert.That(Auxv.TryRead(Platform, target.Pid, out Auxv auxv, out _), Is.True);
        Assert.That(Platform.ReadLink($"/proc/{target.Pid}/exe", out _), Is.EqualTo(CCompiler.Build("native_target.c")));
        Assert.That(target.Registers().ProgramCounter, Is.EqualTo(LoaderEntry(target.Pid, auxv.Base)), "the dynamic linker's entry point");
        Assert.That(Platform.GetEventMessage(target.Pid, out ulong formerId), Is.EqualTo(Errno.None));
        Assert.That(formerId, Is.EqualTo((ulong)target.Pid));
        Assert.That(ProcStatus.TryRead(Platform, target.Pid, out ProcStatus? status, out _), Is.True);
        Assert.That(status!.TracerPid, Is.EqualTo(Platform.CurrentThreadId).Or.EqualTo(Platform.CurrentProcessId));
        Assert.That(target.RunToEnd().TerminatingSignal, Is.EqualTo(Signal.SIGTRAP), "its own int3, delivered");
    });

    [Test]
    public void StartsWithSignalsAndDescriptorsAsFromAShell() => SpawnedTarget.OnThread(() =>
    {
        using SpawnedTarget target = new("signals");
        Assert.That(target.RunToEnd().ExitCode, Is.Zero);
        Assert.That(target.Output, Does.Not.Contain("blocked").And.Not.Contain("not default"));
        string[] ours = [.. Inheritable().Select(fd => $"fd {fd}").Union(["fd 0", "fd 1", "fd 2"]).Order()];
        Assert.That(target.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Order(), Is.EqualTo(ours));
    });

    [Test]
    public void TakesArgumentsEnvironmentDirectoryAndOneFileForBothOutputs() => SpawnedTarget.OnThread(() =>
    {
        DirectoryInfo directory = Directory.CreateTempSubdirectory("native-test-");
        try
        {
            string output = Path.Combine(directory.FullName, "out");
            SpawnRequest request = new()
            {
                Path = Path.GetRelativePath(Environment.CurrentDirectory, CCompiler.Build("native_target.c")),
                Arguments = ["zero", "environment", "", "\u00e4 b"],
                Environment = ["FASTTRAP_TEST=value", "OTHER="],
                WorkingDirectory = directory.FullName,
                StandardOutput = output,
                StandardError = output,
            };
            Assert.That(Platform.SpawnSeized(request, PtraceOptions.ExitKill, out int pid), Is.EqualTo(Errno.None));
            Assert.That(Platform.Continue(pid, 0), Is.EqualTo(Errno.None));
            Assert.That(Platform.Wait(pid, true, out WaitStatus status), Is.EqualTo(pid));
            Assert.That((status.Exited, status.ExitCode), Is.EqualTo((true, 3)));
            Assert.That(
                File.ReadAllText(output),
                Is.EqualTo($"err\ncwd {directory.FullName}\narg zero\narg environment\narg \narg \u00e4 b\nenv value\n"));
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    });

    [Test]
    public void InheritsTheEnvironmentIfNoneIsGiven() => SpawnedTarget.OnThread(() =>
    {
        Environment.SetEnvironmentVariable("FASTTRAP_TEST", "inherited");
        try
        {
            using SpawnedTarget target = new("environment");
            Assert.That(target.RunToEnd().ExitCode, Is.EqualTo(3));
            Assert.That(target.Output, Does.Contain("env inherited\n"));
        }
        finally
        {
            Environment.SetEnvironmentVariable("FASTTRAP_TEST", null);
        }
    });

    [TestCase("missing", Errno.ENOENT)]
    [TestCase("not-executable", Errno.EACCES)]
    [TestCase("directory", Errno.EACCES)]
    [TestCase("garbage", Errno.ENOEXEC)]
    [TestCase("missing/program", Errno.ENOENT)]
    [TestCase("garbage/program", Errno.ENOTDIR)]
    [TestCase("", Errno.ENOENT)]
    public void FailureGivesTheErrnoOfExecAndLeavesNothing(string name, Errno expected) =>
        FailsAndLeavesNothing(directory => new SpawnRequest { Path = name.Length == 0 ? "" : Path.Combine(directory, name), Arguments = ["x"] }, expected);

    [Test]
    public void FailureOfADirectoryOrAFileLeavesNothing()
    {
        string program = CCompiler.Build("native_target.c");
        FailsAndLeavesNothing(d => new SpawnRequest { Path = program, Arguments = ["x"], WorkingDirectory = d + "/missing" }, Errno.ENOENT);
        FailsAndLeavesNothing(d => new SpawnRequest { Path = program, Arguments = ["x"], StandardInput = d + "/missing" }, Errno.ENOENT);
        FailsAndLeavesNothing(d => new SpawnRequest { Path = program, Arguments = ["x"], StandardOutput = d + "/directory" }, Errno.EISDIR);
        FailsAndLeavesNothing(_ => new SpawnRequest { Path = program, Arguments = ["x\0y"] }, Errno.EINVAL);
    }

    [Test]
    public void FailureToSeizeLetsNoProgramRun() => SpawnedTarget.OnThread(() =>
    {
        DirectoryInfo directory = Directory.CreateTempSubdirectory("native-test-");
        try
        {
            string output = Path.Combine(directory.FullName, "out");
            string program = CCompiler.Build("native_target.c");
            HashSet<string> before = Traces();
            SpawnRequest request = new() { Path = program, Arguments = [program, "environment"], StandardOutput = output };

            // An option bit that no kernel knows: PTRACE_SEIZE refuses it.
            Assert.That(Platform.SpawnSeized(request, (PtraceOptions)0x4000_0000, out int pid), Is.EqualTo(Errno.EIO).Or.EqualTo(Errno.EINVAL));
            Assert.That(pid, Is.Zero);
            Assert.That(File.Exists(output), Is.False, "the child did not get past the gate");
            AssertNothingIsLeft(before);
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    });

    [Test]
    public void ManyAtOnceFindTheirOwnChildren()
    {
        string program = CCompiler.Build("native_target.c");
        HashSet<string> before = Traces();
        Parallel.For(0, 4, new ParallelOptions { MaxDegreeOfParallelism = 4 }, _ => SpawnedTarget.OnThread(() =>
        {
            for (int i = 0; i < 8; i++)
            {
                SpawnRequest request = new() { Path = program, Arguments = [program, "nothing"], StandardOutput = "/dev/null" };
                Assert.That(Platform.SpawnSeized(request, PtraceOptions.ExitKill, out int pid), Is.EqualTo(Errno.None));
                Assert.That(Platform.Continue(pid, 0), Is.EqualTo(Errno.None));
                WaitStatus status;
                while (Platform.Wait(pid, true, out status) == -(int)Errno.EINTR)
                {
                }

                Assert.That((status.Exited, status.ExitCode), Is.EqualTo((true, 99)));
            }
        }));
        AssertNothingIsLeft(before);
    }

    private static void FailsAndLeavesNothing(Func<string, SpawnRequest> request, Errno expected) => SpawnedTarget.OnThread(() =>
    {
        DirectoryInfo directory = Directory.CreateTempSubdirectory("native-test-");
        try
        {
            Directory.CreateDirectory(Path.Combine(directory.FullName, "directory"));
            File.WriteAllText(Path.Combine(directory.FullName, "not-executable"), "#!/bin/sh\n");
            string garbage = Path.Combine(directory.FullName, "garbage");
            File.WriteAllText(garbage, "\u0001\u0002 not a program");
            File.SetUnixFileMode(garbage, UnixFileMode.UserRead | UnixFileMode.UserExecute);
            Assert.That(Platform.SpawnSeized(request(directory.FullName), PtraceOptions.None, out int pid), Is.EqualTo(expected));
            HashSet<string> before = Traces();
            for (int i = 0; i < 3; i++)
            {
                Assert.That(Platform.SpawnSeized(request(directory.FullName), PtraceOptions.TraceExit, out pid), Is.EqualTo(expected));
                Assert.That(pid, Is.Zero);
            }

            AssertNothingIsLeft(before);
            Assert.That(Platform.Wait(-1, false, out _), Is.EqualTo(-(int)Errno.ECHILD), "nothing is traced");
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    });

    /// <summary>A thread that was joined is in /proc for a moment more; everything else must be gone at once.</summary>
    private static void AssertNothingIsLeft(HashSet<string> before)
    {
        Assert.That(Traces().Where(trace => !trace.StartsWith("thread ", StringComparison.Ordinal)), Is.SubsetOf(before));
        Until.True(() => Traces().IsSubsetOf(before), "the spawning threads end");
    }

    /// <summary>Everything a spawn makes: children, directories, open descriptors of ours, threads.</summary>
    private static HashSet<string> Traces()
    {
        HashSet<string> traces = [.. Directory.GetDirectories(Path.GetTempPath(), $"fasttrap-gate-{Environment.ProcessId}-*")];
        List<int> ids = [];
        Platform.ListProcIds("/proc", ids);
        foreach (int id in ids)
        {
            if (ProcStat.TryRead(Platform, id, out ProcStat stat, out _) && stat.ParentProcessId == Environment.ProcessId)
            {
                traces.Add($"child {id} {stat.State}");
            }
        }

        foreach (string fd in Directory.GetFiles("/proc/self/fd"))
        {
            string? link = Platform.ReadLink(fd, out _);
            if (link is not null && (link.Contains("fasttrap-gate-", StringComparison.Ordinal) || link.Contains("native-test-", StringComparison.Ordinal)))
            {
                traces.Add($"fd {link}");
            }
        }

        Platform.ListProcIds("/proc/self/task", ids);
        foreach (int id in ids)
        {
            if (Platform.ReadProcFile($"/proc/self/task/{id}/comm", out _) is { } name && name.AsSpan().StartsWith("FastTrap spawn"u8))
            {
                traces.Add($"thread {id}");
            }
        }

        return traces;
    }

    private static List<int> Inheritable()
    {
        List<int> inheritable = [];
        foreach (string fd in Directory.GetFiles("/proc/self/fdinfo"))
        {
            byte[]? text = Platform.ReadProcFile(fd, out _);
            string flags = text is null ? string.Empty : System.Text.Encoding.ASCII.GetString(text).Split('\n').First(l => l.StartsWith("flags:", StringComparison.Ordinal))[6..].Trim();
            if (flags.Length > 0 && (Convert.ToInt64(flags, 8) & LibC.O_CLOEXEC) == 0)
            {
                inheritable.Add(int.Parse(Path.GetFileName(fd), System.Globalization.CultureInfo.InvariantCulture));
            }
        }

        return inheritable;
    }

    private static ulong LoaderEntry(int pid, ulong loader)
    {
        Span<byte> entry = stackalloc byte[8];
        Assert.That(Platform.ReadMemory(pid, loader + 24, entry), Is.EqualTo(8), "e_entry");
        return loader + BitConverter.ToUInt64(entry);
    }
}
