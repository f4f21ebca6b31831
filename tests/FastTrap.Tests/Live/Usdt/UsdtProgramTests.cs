using System.Globalization;
using System.Text;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>Static probes of programs as they are shipped. A program that was built without them is skipped.</summary>
[TestFixture]
public sealed class UsdtProgramTests : LiveTest
{
    [Test]
    public async Task PostgresTellsItsQueriesAndTransactions()
    {
        const int Clients = 2;
        const int Transactions = 40;
        string script = $"""
            \set n :n + 1
            \if :n = 1
            SELECT pg_advisory_lock_shared(6);
            \elif :n = {Transactions + 1}
            SELECT pg_advisory_lock_shared(7);
            \endif
            BEGIN;
            UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :client_id * 1000 + :n;
            SELECT count(*) FROM pgbench_branches;
            INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :n, :client_id, CURRENT_TIMESTAMP);
            END;
            """;
        using PostgresServer server = PostgresServer.Start();
        RequireProbes(server.ExecutablePath, "postgresql");
        using TargetProcess session = server.StartSession();
        session.SendLine("SELECT 'locked', pg_advisory_lock(6), pg_advisory_lock(7);");
        session.ReadLineStarting("locked");
        using TargetProcess bench = server.StartBench("-n", "-c", $"{Clients}", "-t", $"{Transactions + 1}", "-M", "simple", "-D", "n=0", "-f", server.Write("script.sql", script));
        int[] backends = [];
        WaitUntil(
            () =>
            {
                backends = [.. server.Query("select pid from pg_stat_activity where application_name = 'pgbench' and wait_event = 'advisory'")
                    .Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => int.Parse(line, CultureInfo.InvariantCulture))];
                return backends.Length == Clients;
            },
            "the backends to wait for the lock");
        List<(TracedProcess Process, IReadOnlyList<ProbeEnabling> Enablings)> traced = [];
        foreach (int backend in backends)
        {
            TracedProcess process = await Tracer.AttachAsync(backend);
            traced.Add((process, await process.EnableAsync(
            [
                new ProbeRequest("postgresql*:::transaction-start", CountOnly),
                new ProbeRequest("postgresql*:postgres::transaction__commit", CountOnly),
                new ProbeRequest("postgresql*:::query-start", new ProbeOptions { StringArguments = [0], BufferCapacity = 4096 }),
            ])));
        }

        session.SendLine("SELECT 'open', pg_advisory_unlock(6);");
        session.ReadLineStarting("open");
        WaitUntil(() => server.Query("select count(*) from pgbench_history") == $"{Clients * Transactions}", "the transactions");
        WaitUntil(
            () => server.Query("select count(*) from pg_stat_activity where application_name = 'pgbench' and wait_event = 'advisory'") == $"{Clients}", "the second lock");
        List<string> texts = [];
        foreach ((TracedProcess process, IReadOnlyList<ProbeEnabling> enablings) in traced)
        {
            await process.DisposeAsync();

            // That of the first lock had begun before and was committed; that of the second has begun.
            Assert.That(enablings[0].HitCount, Is.EqualTo(Transactions + 1));
            Assert.That(enablings[1].HitCount, Is.EqualTo(Transactions + 1));
            Assert.That(enablings[2].Probes.Select(p => p.Arguments[0].NativeType), Is.All.EqualTo("int64 unsigned"));
            await foreach (ProbeHit hit in enablings[2].ReadAllAsync())
            {
                texts.Add(hit.GetArgumentString(0)!);
            }

            TextCheck.AssertClean(process.ProcessId);
        }

        string[] wanted =
        [
            .. Enumerable.Range(0, Clients).SelectMany(client => Enumerable.Range(1, Transactions).SelectMany(n => new[]
            {
                "BEGIN;", $"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = {client} * 1000 + {n};", "SELECT count(*) FROM pgbench_branches;",
                $"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, {n}, {client}, CURRENT_TIMESTAMP);", "END;",
            }).Append("SELECT pg_advisory_lock_shared(7);")),
        ];
        Assert.That(texts, Is.EquivalentTo(wanted));
        session.SendLine("SELECT 'open', pg_advisory_unlock(7);");
        session.ReadLineStarting("open");
        Assert.That(bench.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), bench.Errors);
        Assert.That(bench.Lines, Has.Some.Contains($"{Clients * (Transactions + 1)}/{Clients * (Transactions + 1)}"));
        await CountsAreThoseOfTheStatistics(server, session);
        session.SendLine("\\q");
        Assert.That(session.WaitForExit().Code, Is.Zero);
        Assert.That(server.Stop(), Is.EqualTo(new TargetExit(0, 0)));
    }

    /// <summary>In a database that nobody else uses: what the server counts between two looks is what the probe counts.</summary>
    private async Task CountsAreThoseOfTheStatistics(PostgresServer server, TargetProcess session)
    {
        const int Transactions = 30;
        const string Look = "SELECT 'commits', xact_commit FROM pg_stat_database WHERE datname = 'quiet';";
        server.Query("ALTER SYSTEM SET autovacuum = off");
        server.Query("SELECT pg_reload_conf()");
        server.Query("CREATE DATABASE quiet");
        session.SendLine("\\c quiet");
        session.SendLine("SELECT 'backend', pg_backend_pid();");
        TracedProcess process = await Tracer.AttachAsync(int.Parse(session.ReadLineStarting("backend").Split('|')[1], CultureInfo.InvariantCulture));
        ProbeEnabling enabling = await process.EnableAsync("postgresql*:::[qt]*-[sc][to][am]*t", new ProbeOptions { StringArguments = [0] });
        session.SendLine("SELECT 'flushed', pg_stat_force_next_flush();");
        session.ReadLineStarting("flushed");
        session.SendLine(Look);
        long before = long.Parse(session.ReadLineStarting("commits").Split('|')[1], CultureInfo.InvariantCulture);
        for (int n = 0; n < Transactions; n++)
        {
            session.SendLine(n % 3 == 0 ? "BEGIN; SELECT 1; ROLLBACK;" : "BEGIN; SELECT 2; COMMIT;");
        }

        session.SendLine("SELECT 'flushed', pg_stat_force_next_flush();");
        session.ReadLineStarting("flushed");
        session.SendLine(Look);
        long after = long.Parse(session.ReadLineStarting("commits").Split('|')[1], CultureInfo.InvariantCulture);
        await process.DisposeAsync();
        int looks = 0;
        long commits = 0;
        await foreach (ProbeHit hit in enabling.ReadAllAsync())
        {
            looks += hit.Probe.Name == "query-start" && hit.GetArgumentString(0) == Look ? 1 : 0;
            commits += hit.Probe.Name == "transaction-commit" && looks == 1 ? 1 : 0;
        }

        Assert.That(looks, Is.EqualTo(2));
        Assert.That(commits, Is.EqualTo(after - before).And.EqualTo((Transactions * 2 / 3) + 2));
    }

    [Test]
    public async Task PythonFunctionsAreThoseThatSettraceSees()
    {
        const string Script = """
            def leaf(n):
                return n + 1
            def generator(n):
                for i in range(n):
                    yield leaf(i)
            class Thing:
                def __init__(self, n):
                    self.n = sum(generator(n))
                def __repr__(self): return "thing"
            def fail():
                raise ValueError
            def work():
                for n in range(20):
                    repr(Thing(n))
                    sorted([3, 1, 2], key=lambda v: leaf(-v))
                    try: fail()
                    except ValueError: pass
            def tracer(frame, event, argument):
                if event == "call":
                    calls.append((frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno))
            calls = []
            ready()
            wait()
            sys.settrace(tracer)
            work()
            sys.settrace(None)
            for call in calls: print("call", *call)
            print("done", flush=True)
            wait()
            """;
        using TargetProcess python = RealPrograms.StartPython(Script);
        RequireProbes("/usr/bin/python3", "python");
        TracedProcess process = await Tracer.AttachAsync(python.ProcessId);
        ProbeEnabling entries = await process.EnableAsync("python*:::function-entry", new ProbeOptions { StringArguments = [0, 1], StringLength = 128 });
        python.SendLine("go");
        python.ReadLineStarting("done");
        await process.DisposeAsync();
        List<string> seen = [];
        await foreach (ProbeHit hit in entries.ReadAllAsync())
        {
            if (hit.GetArgumentString(1) is not ("tracer" or "wait"))
            {
                seen.Add($"call {hit.GetArgumentString(0)} {hit.GetArgumentString(1)} {(int)hit.Arguments[2]}");
            }
        }

        string[] calls = [.. python.Lines.Where(line => line.StartsWith("call ", StringComparison.Ordinal))];
        Assert.That(calls, Has.Length.GreaterThan(200));
        Assert.That(seen, Is.EqualTo(calls));
        TextCheck.AssertClean(python.ProcessId);
        python.SendLine("end");
        Assert.That(python.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task JavaTellsItsCollectionsThreadsAndCompilations()
    {
        const string Source = """
            import java.lang.management.*;
            public class Program {
                static int hot(int n) { int s = 0; for (int i = 0; i < 100; i++) s += i * n; return s; }
                static long collections() {
                    long n = 0;
                    for (GarbageCollectorMXBean bean : ManagementFactory.getGarbageCollectorMXBeans()) n += bean.getCollectionCount();
                    return n;
                }
                public static void main(String[] arguments) throws Exception {
                    collections();
                    System.out.println("ready " + ProcessHandle.current().pid());
                    System.in.read();
                    long before = collections();
                    for (int i = 0; i < 7; i++) System.gc();
                    System.out.println("count collections " + (collections() - before));
                    for (int i = 0; i < 5; i++) {
                        Thread thread = new Thread(() -> { }, "worker number " + i);
                        thread.start();
                        thread.join();
                    }
                    int sum = 0;
                    for (int i = 0; i < 200000; i++) sum += hot(i);
                    System.out.println("done " + sum);
                    System.in.read();
                }
            }
            """;
        using PrivateDirectory directory = new("usdt-java");
        string log = Path.Combine(directory.FullPath, "vm.log");
        using TargetProcess java = RealPrograms.StartJava(Source, directory, ["-XX:+UseSerialGC", "-Xmx64m", "-XX:+PrintCompilation", "-Xlog:gc=off", "-XX:+UnlockDiagnosticVMOptions", "-XX:-DisplayVMOutput", "-XX:+LogVMOutput", $"-XX:LogFile={log}"]);
        string libjvm = File.ReadLines($"/proc/{java.ProcessId}/maps").First(line => line.EndsWith("libjvm.so", StringComparison.Ordinal)).Split(' ')[^1];
        RequireProbes(libjvm, "hotspot");
        TracedProcess process = await Tracer.AttachAsync(java.ProcessId);
        IReadOnlyList<ProbeInfo> listed = await process.ListAsync("hotspot*:libjvm.so::*");
        Assert.That(listed.Sum(p => p.SiteCount), Is.GreaterThanOrEqualTo(500));
        List<string> threads = [];
        List<string> compiled = [];
        IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync(
        [
            new ProbeRequest("hotspot*:::gc-begin", CountOnly),
            new ProbeRequest("hotspot*:::gc-end", CountOnly),
            new ProbeRequest("hotspot*:::thread-start", new ProbeOptions { OnHit = (in ProbeContext c) => threads.Add(Text(c, 0)) }),
            new ProbeRequest("hotspot*:::method-compile-begin", new ProbeOptions { OnHit = (in ProbeContext c) => compiled.Add($"{Text(c, 2)}::{Text(c, 4)}") }),
            new ProbeRequest("hotspot*:::", CountOnly),
        ]);
        Assert.That(enablings[^1].Failures, Is.Empty);
        java.SendLine("");
        java.ReadLineStarting("done ");
        await process.DisposeAsync();
        Assert.That(enablings.Select(e => e.LastHandlerException), Is.All.Null);
        Assert.That(enablings[0].HitCount, Is.EqualTo(java.GetCount("collections")).And.EqualTo(7));
        Assert.That(enablings[1].HitCount, Is.EqualTo(7));
        Assert.That(threads.Where(name => name.StartsWith("worker", StringComparison.Ordinal)), Is.EqualTo(Enumerable.Range(0, 5).Select(i => $"worker number {i}")));
        Assert.That(File.ReadLines(log), Has.Some.Contains("Program::hot"), "the virtual machine says so itself");
        Assert.That(compiled, Does.Contain("Program::hot"));
        Assert.That(enablings[^1].HitCount, Is.GreaterThan(14));
        TextCheck.AssertClean(java.ProcessId);
        java.SendLine("");
        Assert.That(java.WaitForExit().Code, Is.Zero);
    }

    [Test]
    public async Task ExceptionsOfCppAreThrownAndCaught()
    {
        using TargetProcess target = TargetProcess.StartTarget("throws");
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        string library = File.ReadLines($"/proc/{target.ProcessId}/maps").First(line => line.Contains("libstdc++", StringComparison.Ordinal)).Split(' ')[^1];
        RequireProbes(library, "libstdcxx");
        IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync(
        [
            new ProbeRequest("libstdcxx*:libstdc++:__cxa_throw:throw", CountOnly),
            new ProbeRequest("libstdcxx*:::catch", CountOnly),
            new ProbeRequest("libstdcxx*:::rethrow", CountOnly),
        ]);
        target.SendLine("go 100");
        target.ReadCount("caught");
        await process.DisposeAsync();
        Assert.That(
            enablings.Select(e => e.HitCount), Is.EqualTo(new[] { target.GetCount("thrown"), target.GetCount("caught"), target.GetCount("again") }));
        Assert.That(enablings.Select(e => e.HitCount), Is.EqualTo(new[] { 100, 150, 50 }));
        TextCheck.AssertClean(target.ProcessId);
        target.SendLine("quit");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)));
    }

    /// <summary>Skips the test where the distribution has built a program without static probes; binutils say so.</summary>
    private static void RequireProbes(string path, string provider)
    {
        if (ElfTools.StaticProbes(path).All(probe => probe.Provider != provider))
        {
            Assert.Ignore($"{path} was built without static probes.");
        }
    }

    /// <summary>A text that is not ended by a zero: its length is the next argument.</summary>
    private static string Text(in ProbeContext context, int index)
    {
        byte[] bytes = new byte[(int)context.GetArgument(index + 1)];
        return context.Read(context.GetArgument(index), bytes) == bytes.Length ? Encoding.UTF8.GetString(bytes) : "?";
    }
}
