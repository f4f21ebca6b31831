using System.Globalization;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>What cannot be traced or probed is refused with a code and a sentence that says what to do; nothing is touched.</summary>
[TestFixture]
public sealed class RefusalTests : LiveTest
{
    private const uint Nobody = 65534;

    [Test]
    public void UnknownProcess()
    {
        int none = int.Parse(File.ReadAllText("/proc/sys/kernel/pid_max"), CultureInfo.InvariantCulture) + 1;
        AssertRefused(none, FastTrapError.NoSuchProcess, $"{none}", "ps -e");
        Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => Tracer.AttachAsync(0));
        Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => Tracer.AttachAsync(-5));
    }

    [Test]
    public void ThreadInsteadOfProcess()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        int thread = Directory.GetDirectories($"/proc/{target.ProcessId}/task")
            .Select(path => int.Parse(Path.GetFileName(path), CultureInfo.InvariantCulture)).First(id => id != target.ProcessId);
        AssertRefused(thread, FastTrapError.NoSuchProcess, "thread", $"give the process's id, {target.ProcessId}");
        AssertUntouched(target);
    }

    [Test]
    public void OneselfCannotBeTraced() => AssertRefused(Environment.ProcessId, FastTrapError.PermissionDenied, "itself", "a process of its own");

    [Test]
    public void NoPermission()
    {
        if (Posix.geteuid() != 0)
        {
            AssertRefused(1, FastTrapError.PermissionDenied, "user", "CAP_SYS_PTRACE");
            return;
        }

        using PrivateDirectory directory = new("permission", Nobody);
        using TargetProcess target = TargetProcess.StartTarget("jobs");
        using TargetProcess tracer = SeparateTracer.Start(directory, ["attach", $"{target.ProcessId}"], Nobody);
        string line = tracer.ReadLine() ?? "";
        Assert.That(line, Does.StartWith($"error {FastTrapError.PermissionDenied} "), tracer.Errors);
        Assert.That(line, Does.Contain("belongs to user 0").And.Contain("run the tracer as that user, or as root, or give it CAP_SYS_PTRACE"));
        Assert.That(tracer.WaitForExit(), Is.EqualTo(new TargetExit(1, 0)));
        AssertUntouched(target);

        // The same process, on a target of its own user.
        using TargetProcess own = TargetProcess.StartTarget("jobs", options: new TargetStart { User = Nobody });
        using TargetProcess second = TargetProcess.Start(
            tracer.Path, ["exec", directory["FastTrap.Tests.dll"], "attach", $"{own.ProcessId}"], new TargetStart { User = Nobody, WorkingDirectory = directory.FullPath });
        Assert.That(second.ReadLine(), Is.EqualTo("attached"), second.Errors);
        Assert.That(second.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
        AssertUntouched(own);
    }

    [Test]
    public void KernelThread()
    {
        const int Kthreadd = 2;
        if (!File.Exists($"/proc/{Kthreadd}/comm") || File.ReadAllText($"/proc/{Kthreadd}/comm") != "kthreadd\n")
        {
            Assert.Ignore("Process 2 is not the kernel's kthreadd: this is a container.");
        }

        AssertRefused(Kthreadd, FastTrapError.KernelThread, "kthreadd", "perf or bpftrace");
    }

    [Test]
    public void Zombie()
    {
        using TargetProcess target = TargetProcess.StartTarget("states", null, ["zombie"]);
        int child = ReadChild(target);
        AssertRefused(child, FastTrapError.Zombie, $"process {target.ProcessId}", "nothing left to probe");
        End(target);
    }

    [Test]
    public void AlreadyTraced()
    {
        using TargetProcess target = TargetProcess.StartTarget("states", null, ["traced"]);
        int child = ReadChild(target);
        AssertRefused(child, FastTrapError.AlreadyTraced, $"process {target.ProcessId} (states)", "Detach that one first");
        End(target);
    }

    [Test]
    public async Task AlreadyTracedByAnotherTracerOfOurs()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        await using Tracer other = new();
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => other.AttachAsync(target.ProcessId));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.AlreadyTraced));
        Assert.That(error.Message, Does.Contain($"{target.ProcessId}").And.Contain("Detach that one first"));

        // The first is as good as before.
        ProbeEnabling enabling = await process.EnableAsync("a.out:hot:entry", CountOnly);
        Assert.That(target.SendAndReadCount("go 5", "hot"), Is.EqualTo(10));
        Assert.That(enabling.HitCount, Is.EqualTo(10));
        await process.DisposeAsync();
        AssertUntouched(target);
    }

    [Test]
    public void ThirtyTwoBitProgram()
    {
        using PrivateDirectory directory = new("elf32");
        string path = directory["spin"];
        File.WriteAllBytes(path, MakeElf32());
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        TargetProcess target;
        try
        {
            target = TargetProcess.Start(path);
        }
        catch (IOException exception)
        {
            FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => Tracer.CreateAsync(path));
            Assert.That(error!.Error, Is.EqualTo(FastTrapError.CannotStart));
            Assert.Ignore($"This kernel does not execute 32-bit programs: {exception.Message}");
            return;
        }

        using (target)
        {
            AssertRefused(target.ProcessId, FastTrapError.UnsupportedArchitecture, "32-bit x86 program", "probes 64-bit programs of x86-64 and arm64");
        }

        FastTrapException? created = Assert.ThrowsAsync<FastTrapException>(() => Tracer.CreateAsync(path));
        Assert.That(created!.Error, Is.EqualTo(FastTrapError.UnsupportedArchitecture));
    }

    [TestCase("a:b:c:d:e", "at most four", "provider:module:function:name")]
    [TestCase("a.out:[ab:entry", "unfinished", "Escape")]
    [TestCase("a.out:hot\\", "unfinished", "Escape")]
    [TestCase("", "empty", "pid*:libc.so.6:malloc:entry")]
    [TestCase("   ", "empty", "pid*:libc.so.6:malloc:entry")]
    public async Task SyntaxErrorsComeBeforeAnythingElse(string text, string what, string next)
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        FormatException? error = Assert.ThrowsAsync<FormatException>(async () => await process.EnableAsync(text, CountOnly));
        Assert.That(error!.Message, Does.Contain(what).And.Contain(next));
        Assert.That(ProbeDescription.TryParse(text, out _, out string? reason), Is.False);
        Assert.That(reason, Is.EqualTo(error.Message));
        AssertUntouched(target);
    }

    [TestCase("nolib.so.9:malloc:entry", "no module 'nolib.so.9'", "Loaded are: ")]
    [TestCase("a.out:nosuchfunction:entry", "no function 'nosuchfunction'", "list with")]
    [TestCase("pid1:a.out:hot:entry", "the provider 'pid1'", "pid*")]
    [TestCase("a.out:hot:sideways", "no probe name", "entry, return")]
    [TestCase("a.out:hot:fffff", "refused", "offset")]
    public async Task WhatMatchesNothingIsExplained(string text, string what, string next)
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(
            async () => await process.EnableAsync([new ProbeRequest("a.out:work:entry", CountOnly), new ProbeRequest(text, CountOnly)]));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.NoMatch));
        Assert.That(error.ProcessId, Is.EqualTo(target.ProcessId));
        Assert.That(error.Message, Does.Contain(what).And.Contain(next));

        // All or nothing: the good request of the two is not enabled.
        AssertUntouched(target);
    }

    [Test]
    public async Task StrippedProgramIsNamed()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", TargetVariant.Default with { Flags = "-s" }, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(async () => await process.EnableAsync("a.out:hot:entry", CountOnly));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.NoMatch));
        Assert.That(error.Message, Does.Contain("threads is stripped").And.Contain("Install its debug symbols"));
        ProbeEnabling enabling = await process.EnableAsync("libc.so.6:pthread_barrier_wait:entry", CountOnly);
        target.SendLine("go 1");
        target.ReadCount("hot");
        await enabling.DisposeAsync();
        Assert.That(enabling.HitCount, Is.GreaterThanOrEqualTo(3));
        AssertUntouched(target);
    }

    [Test]
    public async Task EndedAndDisposedProcessesSaySo()
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", null, ["2"]);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        target.SendLine("quit");
        Assert.That((await process.Completion.WaitAsync(Patience)).ExitCode, Is.Zero);
        Assert.That(target.WaitForExit().Code, Is.Zero);
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(async () => await process.EnableAsync("a.out:hot:entry"));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.ProcessEnded));
        error = Assert.ThrowsAsync<FastTrapException>(async () => await process.ListAsync("a.out:hot:entry"));
        Assert.That(error!.Error, Is.EqualTo(FastTrapError.ProcessEnded));
        await process.DisposeAsync();
        await process.DisposeAsync();
        AssertRefused(target.ProcessId, FastTrapError.NoSuchProcess, $"{target.ProcessId}", "ps -e");
        await Tracer.DisposeAsync();
        Assert.ThrowsAsync<ObjectDisposedException>(() => Tracer.AttachAsync(1));
    }

    private void AssertRefused(int processId, FastTrapError code, string what, string next)
    {
        FastTrapException? error = Assert.ThrowsAsync<FastTrapException>(() => Tracer.AttachAsync(processId));
        Assert.Multiple(() =>
        {
            Assert.That(error!.Error, Is.EqualTo(code), error.Message);
            Assert.That(error.ProcessId, Is.EqualTo(processId));
            Assert.That(error.Message, Does.Contain(what).And.Contain(next));
        });
        Assert.That(Tracer.Processes.Select(process => process.ProcessId).Where(id => id == processId).Count(), Is.LessThanOrEqualTo(1));
    }

    /// <summary>Its text is the file's, and it works.</summary>
    private static void AssertUntouched(TargetProcess target)
    {
        TextCheck.AssertClean(target.ProcessId);
        if (target.Path.EndsWith("/threads", StringComparison.Ordinal))
        {
            Assert.That(target.SendAndReadCount("go 2", "hot"), Is.EqualTo(4));
        }

        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    private static int ReadChild(TargetProcess target) => int.Parse(target.ReadLineStarting("child ")["child ".Length..], CultureInfo.InvariantCulture);

    private static void End(TargetProcess target)
    {
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
    }

    /// <summary>A program of 32 bits: mov eax, 29 (pause); int 0x80; jmp to its start. One segment, no sections.</summary>
    internal static byte[] MakeElf32()
    {
        const int Base = 0x08048000;
        const int HeaderLength = 52 + 32;
        byte[] code = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
        using MemoryStream stream = new();
        using BinaryWriter writer = new(stream);
        writer.Write([0x7f, (byte)'E', (byte)'L', (byte)'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

        // e_type (executable), e_machine (386), e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
        writer.Write((ushort)2);
        writer.Write((ushort)3);
        Array.ForEach([1, Base + HeaderLength, 52, 0, 0], writer.Write);
        Array.ForEach<ushort>([52, 32, 1, 0, 0, 0], writer.Write);

        // p_type (load), p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags (read, execute), p_align.
        Array.ForEach([1, 0, Base, Base, HeaderLength + code.Length, HeaderLength + code.Length, 5, 0x1000], writer.Write);
        writer.Write(code);
        return stream.ToArray();
    }
}
