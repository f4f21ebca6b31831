namespace FastTrap.Tests.TestKit.Programs;

/// <summary>Programs of the distribution which the tests probe. A test whose program is not installed is skipped, with the reason.</summary>
internal static class RealPrograms
{
    private const uint Nobody = 65534;

    /// <summary>The user for servers which refuse to run as root: nobody for root, else the tests' own.</summary>
    public static uint UnprivilegedUser => Posix.geteuid() == 0 ? Nobody : Posix.geteuid();

    /// <summary>The program's path; skips the test when there is none.</summary>
    public static string Require(string name, params string[] moreDirectories)
    {
        string? path = Command.Find(name, moreDirectories);
        if (path is null)
        {
            Assert.Ignore($"{name} is not installed.");
        }

        return path!;
    }

    /// <summary>Starts Debian's Python on a script; the script prints <c>ready PID</c> by <c>ready()</c>, and waits for a line by <c>wait()</c>.</summary>
    public static TargetProcess StartPython(string script, TargetStart? options = null)
    {
        const string Prelude = """
            import os, sys
            def ready(): print("ready", os.getpid(), flush=True)
            def wait(): return sys.stdin.readline().strip()

            """;
        string path = "/usr/bin/python3";
        if (!File.Exists(path))
        {
            Assert.Ignore($"{path} is not installed.");
        }

        return StartReady(path, ["-I", "-c", Prelude + script], options);
    }

    /// <summary>Starts Java on a class <c>Program</c> given as source, which prints <c>ready PID</c> itself.</summary>
    public static TargetProcess StartJava(string source, PrivateDirectory directory, IReadOnlyList<string>? javaOptions = null, TargetStart? options = null)
    {
        string java = Require("java");
        string compiler = Require("javac");
        File.WriteAllText(directory["Program.java"], source);
        CommandResult compiled = Command.Run(compiler, ["-d", directory.FullPath, directory["Program.java"]], TimeSpan.FromMinutes(2));
        Assert.That(compiled.ExitCode, Is.Zero, compiled.Error);
        return StartReady(java, [.. javaOptions ?? [], "-cp", directory.FullPath, "Program"], options);
    }

    private static TargetProcess StartReady(string path, IReadOnlyList<string> arguments, TargetStart? options)
    {
        TargetProcess process = TargetProcess.Start(path, arguments, options);
        try
        {
            process.WaitReady();
            return process;
        }
        catch
        {
            process.Dispose();
            throw;
        }
    }
}
