using System.Globalization;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>
/// What histograms of two functions of the JVM take from an HTTP server: by this library and by bpftrace, in turn. Of those that were counted most while it served (<c>fasttrap count -p PID 'libjvm.so:*:entry'</c>) they are the two whose
/// argument says something: the length of interned strings, 37 for each request, and how long a thread is to sleep, once or twice for each.
/// </summary>
internal static class JavaCost
{
    private const string Intern = "_ZN11StringTable6internE6HandlePKtiP10JavaThread";
    private const string Park = "_ZN6Parker4parkEbl";

    public static async Task PrintAsync(IReadOnlyDictionary<string, string> options)
    {
        int rounds = int.Parse(options.GetValueOrDefault("rounds", "9"), CultureInfo.InvariantCulture);
        int milliseconds = int.Parse(options.GetValueOrDefault("milliseconds", "1500"), CultureInfo.InvariantCulture);
        if (Command.Find("java") is not { } java || Command.Find("javac") is not { } compiler)
        {
            Console.WriteLine("missing: install default-jdk-headless");
            return;
        }

        using Interruption interruption = new();
        using PrivateDirectory directory = new("java");
        CommandResult compiled = Command.Run(compiler, ["-d", directory.FullPath, Path.Combine(TargetBuilder.SourceDirectory, "Server.java")], TimeSpan.FromMinutes(1));
        if (compiled.ExitCode != 0)
        {
            throw new InvalidOperationException(compiled.Error);
        }

        using TargetProcess server = TargetProcess.Start(java, ["-Xmx256m", "-cp", directory.FullPath, "Server"]);
        server.WaitReady();
        double Serve()
        {
            server.SendLine($"go {milliseconds}");
            string[] words = server.ReadLineStarting("done ").Split(' ');
            return long.Parse(words[1], CultureInfo.InvariantCulture) / (long.Parse(words[2], CultureInfo.InvariantCulture) / 1e9);
        }

        const int WarmingRounds = 4;
        for (int i = 0; i < WarmingRounds; i++)
        {
            interruption.Check();
            Serve();
        }

        string library = File.ReadLines($"/proc/{server.ProcessId}/maps").First(line => line.EndsWith("/libjvm.so", StringComparison.Ordinal)).Split(' ')[^1];
        await using Tracer tracer = new();
        LibraryWatch Ours(string name, string function, Func<TracedProcess, Task<(ProbeResult, Task)>> enable) => new(
            $"FastTrap, {name}", $"process.On(\"libjvm.so:{function}:entry\").Histogram(c => (long)c.Arg(2))", tracer, () => [server.ProcessId], enable);
        LibraryWatch intern = Ours("lengths of interned strings", Intern, async process => (await process.On($"libjvm.so:{Intern}:entry").Histogram(c => (int)c.Arg(2)).EnableAsync().ConfigureAwait(false), Task.CompletedTask));
        LibraryWatch park = Ours("times to sleep", Park, async process => (await process.On($"libjvm.so:{Park}:entry").Histogram(c => (long)c.Arg(2)).EnableAsync().ConfigureAwait(false), Task.CompletedTask));
        BpftraceWatch Theirs(string name, string function, string argument, LibraryWatch ours) => new(
            $"bpftrace, {name}", $"uprobe:{library}:{function}", $"@ = hist({argument});", directory["bpftrace"], () => (server.ProcessId, ours.Address));
        Watch[] watches =
        [
            new NoWatch(), park, Theirs("times to sleep", Park, "arg2", park), intern, Theirs("lengths of interned strings", Intern, "arg2", intern),
        ];
        Console.WriteLine($"java -Xmx256m Server (benchmarks/reference/Server.java), {milliseconds} ms a round.");
        await WatchTable.PrintAsync(watches, rounds, Serve, "requests", interruption).ConfigureAwait(false);
        server.CloseInput();
        server.WaitForExit();
    }
}
