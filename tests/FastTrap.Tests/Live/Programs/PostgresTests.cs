using System.Globalization;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>PostgreSQL under pgbench: two backends probed by one tracer while they execute a known number of transactions.</summary>
[TestFixture]
public sealed class PostgresTests : LiveTest
{
    private const int Clients = 2;
    private const int Transactions = 60;

    // The first transaction of a client waits for lock 6, the one after the last counted for lock 7: between them nothing else is executed.
    private static readonly string s_script = $"""
        \set n :n + 1
        \if :n = 1
        SELECT pg_advisory_lock_shared(6);
        \elif :n = {Transactions + 1}
        SELECT pg_advisory_lock_shared(7);
        \endif
        \set account :client_id * 1000 + :n
        BEGIN;
        UPDATE pgbench_accounts SET abalance = abalance + :n WHERE aid = :account;
        SELECT abalance FROM pgbench_accounts WHERE aid = :account;
        INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :account, :n, CURRENT_TIMESTAMP);
        END;
        """;

    [Test]
    public async Task BackendsAreCountedAndDoNotNotice()
    {
        using PostgresServer server = PostgresServer.Start(environment: PreloadCounts.Environment);
        string script = server.Write("script.sql", s_script);
        using TargetProcess session = server.StartSession();
        session.SendLine("SELECT 'locked', pg_advisory_lock(6), pg_advisory_lock(7);");
        session.ReadLineStarting("locked");
        using TargetProcess bench = server.StartBench(
            "-n", "-c", $"{Clients}", "-t", $"{Transactions + 1}", "-M", "simple", "-D", "n=0", "-f", script);
        int[] backends = WaitForBackends(server);

        List<Counted> counted = [];
        foreach (int backend in backends)
        {
            counted.Add(await Count(backend));
        }

        session.SendLine("SELECT 'open', pg_advisory_unlock(6);");
        session.ReadLineStarting("open");
        string rows = $"{Clients * Transactions}";
        WaitUntil(() => server.Query("select count(*) from pgbench_history") == rows, "the transactions");
        Assert.That(WaitForBackends(server), Is.EquivalentTo(backends));
        foreach (Counted one in counted)
        {
            PreloadCounts own = PreloadCounts.Read(one.Process.ProcessId) - one.Before;
            await one.Process.DisposeAsync();
            Assert.That(one.Begins.HitCount, Is.EqualTo(Transactions));
            Assert.That(one.Ends.HitCount, Is.EqualTo(Transactions));

            // BEGIN, three statements, END; and the lock at the end, which has begun. That at the start had begun before.
            Assert.That(one.Portals.HitCount, Is.EqualTo((5 * Transactions) + 1));
            Assert.That(own.Mallocs, Is.GreaterThan(0));
            Assert.That(new PreloadCounts(one.Malloc.HitCount, one.Free.HitCount), Is.EqualTo(own));
            Assert.That(one.Many.Probes, Has.Count.GreaterThan(300));
            Assert.That(one.Many.HitCount, Is.GreaterThan(1000));
            TextCheck.AssertClean(one.Process.ProcessId);
        }

        session.SendLine("SELECT 'open', pg_advisory_unlock(7);");
        session.ReadLineStarting("open");
        Assert.That(bench.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), bench.Errors);
        int all = Clients * (Transactions + 1);
        Assert.That(bench.Lines, Has.Some.Contains($"{all}/{all}"));
        int sum = Clients * (Transactions + 1) * (Transactions + 2) / 2;
        Assert.That(server.Query("select sum(abalance) from pgbench_accounts"), Is.EqualTo(sum.ToString(CultureInfo.InvariantCulture)));
        Assert.That(server.Query("select count(*), sum(delta) from pgbench_history"), Is.EqualTo($"{all}|{sum}"));
        session.SendLine("\\q");
        Assert.That(session.WaitForExit().Code, Is.Zero);
        Assert.That(server.Stop(), Is.EqualTo(new TargetExit(0, 0)));
    }

    /// <summary>The backends of pgbench, once both wait for an advisory lock.</summary>
    private static int[] WaitForBackends(PostgresServer server)
    {
        int[] backends = [];
        WaitUntil(
            () =>
            {
                backends = [.. server.Query("select pid from pg_stat_activity where application_name = 'pgbench' and wait_event = 'advisory'")
                    .Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => int.Parse(line, CultureInfo.InvariantCulture))];
                return backends.Length == Clients;
            },
            "both backends to wait for the lock");
        return backends;
    }

    private async Task<Counted> Count(int backend)
    {
        PreloadCounts before = PreloadCounts.Read(backend);
        TracedProcess process = await Tracer.AttachAsync(backend);
        IReadOnlyList<ProbeEnabling> enablings = await process.EnableAsync(
        [
            new ProbeRequest("a.out:BeginTransactionBlock:entry", CountOnly),
            new ProbeRequest("a.out:EndTransactionBlock:return", CountOnly),
            new ProbeRequest("a.out:PortalRun:entry", CountOnly),
            new ProbeRequest("libc.so.6:malloc:entry", CountOnly),
            new ProbeRequest("libc.so.6:free:entry", CountOnly),
            new ProbeRequest("a.out:[a-h]*_*:entry", CountOnly),
        ]);
        return new Counted(process, before, enablings[0], enablings[1], enablings[2], enablings[3], enablings[4], enablings[5]);
    }

    private sealed record Counted(
        TracedProcess Process, PreloadCounts Before, ProbeEnabling Begins, ProbeEnabling Ends, ProbeEnabling Portals,
        ProbeEnabling Malloc, ProbeEnabling Free, ProbeEnabling Many);
}
