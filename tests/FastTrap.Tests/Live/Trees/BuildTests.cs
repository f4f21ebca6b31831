using System.Globalization;
using System.Text;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Live.Trees;

/// <summary>Programs which start many others, followed from their start: they do what they do alone, and every birth, execution and end is seen once.</summary>
[TestFixture]
public sealed class BuildTests : LiveTest
{
    private const int Sources = 12;

    [Test]
    public async Task ScriptOfAThousandProcesses()
    {
        const int Processes = 1000;
        using PrivateDirectory directory = new("script");
        CreateOptions options = new() { StopAt = CreateStop.Exec, FollowChildren = true, StandardOutput = directory["out"], StandardError = directory["err"] };
        await using EventLog log = new(Tracer);
        StandingEnabling ends = await Tracer.EnableAsync("libc.so.6:_exit:entry", CountOnly);
        TracedProcess process = await Tracer.CreateAsync("/bin/sh", ["-c", $"i=0; while [ $i -lt {Processes} ]; do /bin/echo $i; i=$((i+1)); done; exit 5"], options);
        await process.ResumeAsync();
        Assert.That(await process.Completion.WaitAsync(TimeSpan.FromMinutes(3)), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 5, 0)));
        Assert.That(await File.ReadAllTextAsync(directory["out"]), Is.EqualTo(string.Concat(Enumerable.Range(0, Processes).Select(i => i.ToString(CultureInfo.InvariantCulture) + "\n"))));
        Assert.That(await File.ReadAllTextAsync(directory["err"]), Is.Empty);
        Assert.That(ends.ProcessFailures, Is.Empty);
        Assert.That(ends.HitCount, Is.EqualTo(Processes + 1), "each process ends by _exit once, the shell too");
        await Tracer.DisposeAsync();
        await log.AssertInOrderAsync();
        Assert.That(
            (log.Count(ProcessEventKind.Forked), log.Count(ProcessEventKind.Executed), log.Count(ProcessEventKind.Ended)), Is.EqualTo((Processes, Processes, Processes + 1)));
        Assert.That(
            log.All.Where(e => e.Kind == ProcessEventKind.Ended && e.Process != process).Select(e => e.Exit), Is.All.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)));
    }

    [Test]
    public async Task MakeWithFourJobs()
    {
        if (Command.Find("make") is null || Command.Find("strace") is null)
        {
            Assert.Ignore("make or strace is not installed.");
        }

        using PrivateDirectory alone = new("make");
        using PrivateDirectory followed = new("make");
        WriteProject(alone);
        WriteProject(followed);

        // strace is the oracle: what is executed, and how often.
        CommandResult result = Command.Run(
            Command.Find("strace")!, ["-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", alone["trace"], "make", "-s", "-j4", "-C", alone.FullPath], TimeSpan.FromMinutes(2));
        Assert.That(result.ExitCode, Is.EqualTo(0), result.Error);
        string[] executed = [.. (await File.ReadAllLinesAsync(alone["trace"])).Where(line => line.Contains("execve", StringComparison.Ordinal) && line.EndsWith("= 0", StringComparison.Ordinal))];

        await using EventLog log = new(Tracer);
        StandingEnabling ends = await Tracer.EnableAsync("libc.so.6:_exit:entry", CountOnly);
        TracedProcess make = await Tracer.CreateAsync(
            "make", ["-s", "-j4", "-C", followed.FullPath],
            new CreateOptions { StopAt = CreateStop.Exec, FollowChildren = true, StandardOutput = followed["out"], StandardError = followed["err"] });
        await make.ResumeAsync();
        ProcessExit exit = await make.Completion.WaitAsync(TimeSpan.FromMinutes(3));
        Assert.That(exit, Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)), await File.ReadAllTextAsync(followed["err"]));
        Assert.That(ends.ProcessFailures, Is.Empty);
        await Tracer.DisposeAsync();
        await log.AssertInOrderAsync();

        // The first execution is make's own, which created it.
        Assert.That(log.Count(ProcessEventKind.Executed), Is.EqualTo(executed.Length - 1));
        Assert.That(log.Count(ProcessEventKind.Ended), Is.EqualTo(log.Count(ProcessEventKind.Forked) + 1));
        Assert.That(log.All.Where(e => e.Kind == ProcessEventKind.Ended).Select(e => e.Exit), Is.All.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)));
        Assert.That(ends.HitCount, Is.EqualTo(log.Count(ProcessEventKind.Ended)), "each process ends by _exit once");
        for (int i = 0; i < Sources; i++)
        {
            Assert.That(await File.ReadAllBytesAsync(followed[$"part{i}.o"]), Is.EqualTo(await File.ReadAllBytesAsync(alone[$"part{i}.o"])), $"part{i}.o");
        }

        Assert.That(Command.Run(followed["program"], [], TimeSpan.FromSeconds(20)).Output, Is.EqualTo(Command.Run(alone["program"], [], TimeSpan.FromSeconds(20)).Output));
    }

    private static void WriteProject(PrivateDirectory directory)
    {
        StringBuilder main = new("#include <stdio.h>\n");
        StringBuilder sum = new("0");
        for (int i = 0; i < Sources; i++)
        {
            File.WriteAllText(directory[$"part{i}.c"], $"int part{i}(int x) {{ return x * {i + 3} + {i}; }}\n");
            main.Append(CultureInfo.InvariantCulture, $"int part{i}(int);\n");
            sum.Append(CultureInfo.InvariantCulture, $" + part{i}({i})");
        }

        File.WriteAllText(directory["main.c"], main.Append(CultureInfo.InvariantCulture, $"int main(void) {{ printf(\"%d\\n\", {sum}); return 0; }}\n").ToString());
        string objects = string.Join(' ', Enumerable.Range(0, Sources).Select(i => $"part{i}.o"));
        File.WriteAllText(directory["Makefile"], $"program: main.o {objects}\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O2 -c -o $@ $<\n");
    }
}
