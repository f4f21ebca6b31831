using System.Globalization;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>Static probes that stand before the programs exist which have them: all processes and libraries of a tree are counted.</summary>
[TestFixture]
public sealed class StandingProgramTests : LiveTest
{
    [Test]
    public async Task PostgresFromItsStartWithAllItsBackends()
    {
        const int Clients = 4;
        const int Transactions = 50;
        using PostgresServer server = PostgresServer.Start();
        if (ElfTools.StaticProbes(server.ExecutablePath).All(probe => probe.Provider != "postgresql"))
        {
            Assert.Ignore("postgres was built without static probes.");
        }

        server.Query("ALTER SYSTEM SET autovacuum = off");
        server.Query("CREATE DATABASE quiet TEMPLATE postgres");
        Assert.That(server.Stop(), Is.EqualTo(new TargetExit(0, 0)));

        StandingEnabling queries = await Tracer.EnableAsync("postgresql*:::query-start", new ProbeOptions { StringArguments = [0], StringLength = 128, BufferCapacity = 1 << 14 });
        StandingEnabling starts = await Tracer.EnableAsync("postgresql*:::transaction-start", CountOnly);
        StandingEnabling commits = await Tracer.EnableAsync("postgresql*:postgres::transaction__commit", CountOnly);
        using PrivateDirectory directory = new("standing");
        IReadOnlyList<string> start = server.StartAgain;
        TracedProcess postmaster = await Tracer.CreateAsync(
            start[0], [.. start.Skip(1)],
            new CreateOptions { StopAt = CreateStop.Exec, FollowChildren = true, WorkingDirectory = "/", StandardOutput = directory["out"], StandardError = directory["err"] });
        await postmaster.ResumeAsync();
        WaitUntil(() => server.IsReady, "the server");
        long Committed() => long.Parse(server.Query("select xact_commit from pg_stat_database where datname = 'quiet'"), CultureInfo.InvariantCulture);
        long before = Committed();
        WaitUntil(() => server.Backends().Count == 0, "the backends of the looks");
        int processes = Settle();
        (long started, long committed) = (starts.HitCount, commits.HitCount);
        string script = server.Write("script.sql", """
            \set n :n + 1
            BEGIN;
            UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :client_id * 1000 + :n;
            END;
            """);
        string output = server.BenchIn("quiet", "-n", "-c", $"{Clients}", "-j", "2", "-t", $"{Transactions}", "-M", "simple", "-D", "n=0", "-f", script);
        Assert.That(output, Does.Contain($"{Clients * Transactions}/{Clients * Transactions}"));
        WaitUntil(() => Tracer.Processes.Count <= processes, "the backends of pgbench to end");
        (started, committed) = (starts.HitCount - started, commits.HitCount - committed);
        Assert.That(committed, Is.EqualTo(Committed() - before), "as the server's own statistics");
        Assert.That(started, Is.EqualTo(committed), "nothing was rolled back");
        Assert.That(committed, Is.GreaterThanOrEqualTo(Clients * Transactions));
        Assert.That(
            (queries.ProcessFailures.Count, starts.ProcessFailures.Count, commits.ProcessFailures.Count, queries.LostHits), Is.EqualTo((0, 0, 0, 0L)),
            () => string.Join('\n', queries.ProcessFailures));
        Command.Run("/bin/sh", ["-c", $"kill -INT {postmaster.ProcessId}"], Patience);
        Assert.That(await postmaster.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)), () => File.ReadAllText(directory["out"]));
        await queries.DisposeAsync();
        List<string> texts = [];
        HashSet<int> backends = [];
        await foreach (ProbeHit hit in queries.ReadAllAsync())
        {
            string text = hit.GetArgumentString(0) ?? "";
            if (text is "BEGIN;" or "END;" || text.StartsWith("UPDATE", StringComparison.Ordinal))
            {
                texts.Add(text);
                backends.Add(hit.ProcessId);
            }
        }

        Assert.That(backends, Has.Count.EqualTo(Clients));
        Assert.That(texts, Is.EquivalentTo(Enumerable.Range(0, Clients).SelectMany(client => Enumerable.Range(1, Transactions).SelectMany(n => new[]
        {
            "BEGIN;", $"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = {client} * 1000 + {n};", "END;",
        }))));

        // The looks' own backends have gone. One of the server's own helpers may still go.
        int Settle()
        {
            int count = 0;
            WaitUntil(() => (count = Tracer.Processes.Count) == Directory.GetDirectories("/proc").Count(IsOfServer), "the processes to settle");
            return count;
        }

        bool IsOfServer(string path)
        {
            if (!char.IsAsciiDigit(path["/proc/".Length]))
            {
                return false;
            }

            try
            {
                string stat = File.ReadAllText($"{path}/stat");
                string[] words = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
                return path == $"/proc/{postmaster.ProcessId}" || words[1] == postmaster.ProcessId.ToString(CultureInfo.InvariantCulture);
            }
            catch (IOException)
            {
                // No process, or one that has just ended.
                return false;
            }
        }
    }

    [Test]
    public async Task JavaLoadsItsMachineLater()
    {
        const string Source = """
            public class Program {
                public static void main(String[] arguments) throws Exception {
                    for (int i = 0; i < 5; i++) System.gc();
                    for (int i = 0; i < 3; i++) {
                        Thread thread = new Thread(() -> { }, "worker number " + i);
                        thread.start();
                        thread.join();
                    }
                    long n = 0;
                    for (java.lang.management.GarbageCollectorMXBean bean : java.lang.management.ManagementFactory.getGarbageCollectorMXBeans()) n += bean.getCollectionCount();
                    System.out.println("collections " + n);
                }
            }
            """;
        string java = RealPrograms.Require("java");
        using PrivateDirectory directory = new("standing-java");
        File.WriteAllText(directory["Program.java"], Source);
        CommandResult compiled = Command.Run(RealPrograms.Require("javac"), ["-d", directory.FullPath, directory["Program.java"]], TimeSpan.FromMinutes(2));
        Assert.That(compiled.ExitCode, Is.Zero, compiled.Error);
        StandingEnabling all = await Tracer.EnableAsync("hotspot*:::*", CountOnly);
        StandingEnabling begins = await Tracer.EnableAsync("hotspot*:::gc-begin", CountOnly);
        int workers = 0;
        StandingEnabling threads = await Tracer.EnableAsync("hotspot*:::thread-start", new ProbeOptions
        {
            Buffered = false,
            OnHit = (in ProbeContext c) => workers += c.TryGetArgumentString(0, 13, out string? name) && name == "worker number" ? 1 : 0,
        });
        TracedProcess process = await Tracer.CreateAsync(
            java, ["-XX:+UseSerialGC", "-Xmx64m", "-Xshare:auto", "-cp", directory.FullPath, "Program"],
            new CreateOptions { StopAt = CreateStop.Exec, FollowChildren = true, StandardOutput = directory["out"], StandardError = directory["err"] });
        await process.ResumeAsync();
        Assert.That(await process.Completion.WaitAsync(TimeSpan.FromMinutes(2)), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)), () => File.ReadAllText(directory["err"]));
        if (begins.HitCount == 0 && all.HitCount == 0 && all.ProcessFailures.Count == 0)
        {
            Assert.Ignore("libjvm was built without static probes.");
        }

        Assert.That(all.ProcessFailures, Is.Empty);
        string collections = (await File.ReadAllLinesAsync(directory["out"])).Last(line => line.StartsWith("collections ", StringComparison.Ordinal))["collections ".Length..];
        Assert.That(begins.HitCount, Is.EqualTo(long.Parse(collections, CultureInfo.InvariantCulture)).And.GreaterThanOrEqualTo(5));
        Assert.That(workers, Is.EqualTo(3));
        Assert.That(all.HitCount, Is.GreaterThan(begins.HitCount + 3));
    }

    [Test]
    public async Task PythonsChildrenTellTheirEvents()
    {
        const int Children = 5;

        // Audit events: since 3.11 Python fires its function-entry for few kinds of calls only.
        const string Script = """
            import subprocess, sys, os
            child = "import sys\nfor i in range({0}): sys.audit('fasttrap.work')"
            def parent(n):
                sys.audit("fasttrap.parent")
                subprocess.run([sys.executable, "-I", "-c", child.format(n)], check=True)
            for n in range(1, 6): parent(n)
            if os.fork() == 0:
                for n in range(7): sys.audit("fasttrap.forked")
                os._exit(0)
            os.wait()
            """;
        const string Python = "/usr/bin/python3";
        if (!File.Exists(Python) || ElfTools.StaticProbes(Python).All(probe => probe.Provider != "python"))
        {
            Assert.Ignore($"{Python} is not installed, or was built without static probes.");
        }

        Dictionary<string, int> calls = [];
        HashSet<int> processes = [];
        StandingEnabling events = await Tracer.EnableAsync("python*:::audit", new ProbeOptions
        {
            Buffered = false,
            OnHit = (in ProbeContext c) =>
            {
                if (c.TryGetArgumentString(0, 64, out string? name) && name.StartsWith("fasttrap.", StringComparison.Ordinal))
                {
                    calls[name] = calls.GetValueOrDefault(name) + 1;
                    processes.Add(c.ProcessId);
                }
            },
        });
        using PrivateDirectory directory = new("standing-python");
        TracedProcess process = await Tracer.CreateAsync(
            Python, ["-I", "-c", Script], new CreateOptions { StopAt = CreateStop.Exec, FollowChildren = true, StandardOutput = directory["out"], StandardError = directory["err"] });
        await process.ResumeAsync();
        Assert.That(await process.Completion.WaitAsync(Patience), Is.EqualTo(new ProcessExit(ProcessExitKind.Exited, 0, 0)), () => File.ReadAllText(directory["err"]));
        await events.DisposeAsync();
        Assert.That((events.ProcessFailures.Count, events.HandlerErrors), Is.EqualTo((0, 0L)));
        Assert.That(calls, Is.EquivalentTo(new Dictionary<string, int> { ["fasttrap.work"] = 1 + 2 + 3 + 4 + 5, ["fasttrap.parent"] = Children, ["fasttrap.forked"] = 7 }));
        Assert.That(processes, Has.Count.EqualTo(Children + 2));
    }
}
