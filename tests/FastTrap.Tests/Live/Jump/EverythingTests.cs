using System.Diagnostics;
using System.Globalization;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Live;

/// <summary>
/// All functions of a busy program's main library, entry and return, armed at once: which share of them by jumps, how much slower the program is, how long its threads were held up, by our measure and by a thread of the program that looks at
/// the clock all the time. <c>dotnet test ... --filter EverythingTests --logger "console;verbosity=detailed"</c> prints it.
/// </summary>
[TestFixture]
public sealed class EverythingTests : LiveTest
{
    private const int Rounds = 5;

    /// <summary>Shares of the instructions that are probed.</summary>
    private const double EntriesByJump = 0.995;
    private const double ReturnsByJump = 0.97;
    private const double ReturnsBesideEntries = 0.95;

    [Test]
    public async Task OfLibjvm()
    {
        using PrivateDirectory directory = new("java-everything");
        using TargetProcess java = BusyPrograms.StartJava(directory);
        string result = Work();
        Gap();
        TracedProcess process = await Tracer.AttachAsync(java.ProcessId);
        await using (await process.On("libjvm.so:JNI_CreateJavaVM:entry").Count().EnableAsync())
        {
            // The module is known now.
        }

        await using (await EnableAsync(process, "libjvm.so:*:return", ReturnsByJump))
        {
            // By themselves: beside the entries, what is both is a breakpoint.
            Assert.That(Work(), Is.EqualTo(result));
        }

        Gap();
        double alone = Time(() => Assert.That(Work(), Is.EqualTo(result)));
        TestContext.Out.WriteLine($"longest gap of a thread at the clock, nothing probed: {Gap()} us");
        ProbeSum entries = await EnableAsync(process, "libjvm.so:*:entry", EntriesByJump);
        TestContext.Out.WriteLine($"longest gap while entries were enabled: {Gap()} us");
        ProbeSum returns = await EnableAsync(process, "libjvm.so:*:return", ReturnsBesideEntries);
        TestContext.Out.WriteLine($"longest gap while returns were enabled: {Gap()} us");
        double probed = Time(() => Assert.That(Work(), Is.EqualTo(result)));
        TestContext.Out.WriteLine($"{probed / alone:f2} times as long with everything probed; longest gap: {Gap()} us");
        await DisableAsync(returns);
        TestContext.Out.WriteLine($"longest gap while returns were disabled: {Gap()} us");
        await DisableAsync(entries);
        TestContext.Out.WriteLine($"longest gap while entries were disabled: {Gap()} us");
        TextCheck.AssertClean(java.ProcessId);
        Assert.That(Work(), Is.EqualTo(result));
        await process.DisposeAsync();
        java.SendLine("");
        Assert.That(java.WaitForExit(), Is.EqualTo(new TargetExit(8, 0)), java.Errors);

        string Work()
        {
            java.SendLine("work");
            return java.ReadLineStarting("result ");
        }

        string Gap()
        {
            java.SendLine("gap");
            return java.ReadLineStarting("gap ")[4..];
        }
    }

    [Test]
    [Explicit("Forty seconds.")]
    public async Task OfPostgres()
    {
        const string Seconds = "20";
        using PostgresServer server = PostgresServer.Start();
        double alone = Transactions(server.Bench("-n", "-c", "1", "-T", Seconds));
        using TargetProcess bench = server.StartBench("-n", "-c", "1", "-T", Seconds);
        WaitUntil(() => server.Backends().Count == 1, "the client's backend");
        int backend = server.Backends()[0];
        TracedProcess process = await Tracer.AttachAsync(backend);
        ProbeSum entries = await EnableAsync(process, "postgres:*:entry", EntriesByJump);
        ProbeSum returns = await EnableAsync(process, "postgres:*:return", ReturnsByJump);

        // It is busy all the time; what was counted while it was probed is left when it has gone.
        Assert.That(bench.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), bench.Errors);
        string output = string.Join('\n', bench.Lines);
        Assert.That(output, Does.Contain("failed transactions: 0 ").Or.Not.Contain("failed transactions"));
        TestContext.Out.WriteLine($"{alone / Transactions(output):f2} times fewer transactions with everything probed, from enabling on; {entries.Count} and {returns.Count} hits");
        Assert.That(entries.Count, Is.GreaterThan(100_000));
        Assert.That(returns.Count, Is.GreaterThan(100_000));
        Assert.That(
            server.Query("select sum(abalance) = (select sum(delta) from pgbench_history) and sum(abalance) = (select sum(bbalance) from pgbench_branches) from pgbench_accounts"),
            Is.EqualTo("t"));
        await process.DisposeAsync();
        Assert.That(server.Stop(), Is.EqualTo(new TargetExit(0, 0)));
    }

    [Test]
    public async Task OfTheBackendOfASession()
    {
        const string Query = "select md5(string_agg(i || ':' || sqrt(i)::text, ',' order by i % 7, i)) from generate_series(1, 3000) i;";
        using PostgresServer server = PostgresServer.Start();
        using TargetProcess session = server.StartSession();
        session.SendLine("select 'pid ' || pg_backend_pid();");
        int backend = int.Parse(session.ReadLineStarting("pid ")[4..], CultureInfo.InvariantCulture);
        session.SendLine(Query);
        string result = session.ReadLine()!;
        double alone = Time(Ask);
        TracedProcess process = await Tracer.AttachAsync(backend);
        ProbeSum entries = await EnableAsync(process, "postgres:*:entry", EntriesByJump);
        ProbeSum returns = await EnableAsync(process, "postgres:*:return", ReturnsByJump);
        TestContext.Out.WriteLine($"{Time(Ask) / alone:f2} times as long with everything probed");
        await DisableAsync(returns);
        await DisableAsync(entries);
        TextCheck.AssertClean(backend);
        Ask();
        await process.DisposeAsync();
        session.SendLine("\\q");
        Assert.That(session.WaitForExit().Code, Is.Zero);
        Assert.That(server.Stop(), Is.EqualTo(new TargetExit(0, 0)));

        void Ask()
        {
            session.SendLine(Query);
            Assert.That(session.ReadLine(), Is.EqualTo(result));
        }
    }

    [Test]
    public async Task OfLibstdcxx()
    {
        string[] arguments = ["4", "20000"];
        long start = Stopwatch.GetTimestamp();
        IReadOnlyList<string> lines = RunAlone("threadedcpp", null, arguments);
        double alone = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        using TargetProcess target = TargetProcess.StartTarget("threadedcpp", null, arguments);
        TracedProcess process = await Tracer.AttachAsync(target.ProcessId);
        ProbeSum entries = await EnableAsync(process, "libstdc++*:*:entry", EntriesByJump);
        ProbeSum returns = await EnableAsync(process, "libstdc++*:*:return", ReturnsByJump);
        start = Stopwatch.GetTimestamp();
        target.SendLine("go");
        target.ReadLineStarting(LastLineOf("threadedcpp"));
        TestContext.Out.WriteLine($"{Stopwatch.GetElapsedTime(start).TotalMilliseconds / alone:f2} times as long with everything probed");
        await DisableAsync(returns);
        await DisableAsync(entries);
        TextCheck.AssertClean(target.ProcessId);
        await process.DisposeAsync();
        target.SendLine("end");
        Assert.That(target.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), string.Join('\n', target.Lines));
        Assert.That(Comparable(target.Lines), Is.EqualTo(lines));
    }

    private static async Task<ProbeSum> EnableAsync(TracedProcess process, string description, double leastShare)
    {
        long start = Stopwatch.GetTimestamp();
        ProbeSum hits = await process.On(description).Count().EnableAsync();
        ProbeMechanisms by = hits.Mechanisms;
        int all = by.Jump + by.InProcessTrap + by.Breakpoint;
        double share = (double)by.Jump / all;
        TestContext.Out.WriteLine(
            $"{description}: {share:p2} of {all} instructions by jump, {by.InProcessTrap} by traps in the process, {by.Breakpoint} by breakpoints, enabled in {Stopwatch.GetElapsedTime(start).TotalMilliseconds:f0} ms, {Describe(hits.Stall)}; not by jump: "
            + string.Join("; ", by.Reasons.OrderByDescending(r => r.Value).Select(r => $"{r.Value} {r.Key}")));
        TestContext.Out.WriteLine(
            "    no probe: " + string.Join("; ", hits.Enablings.SelectMany(e => e.Failures).GroupBy(f => f.Refusal).Select(g => $"{g.Count()} {g.Key}")));
        Assert.That(share, Is.GreaterThan(leastShare), description);
        return hits;
    }

    private static async Task DisableAsync(ProbeSum hits)
    {
        long start = Stopwatch.GetTimestamp();
        await hits.DisposeAsync();
        TestContext.Out.WriteLine($"{hits.Count} hits; disabled in {Stopwatch.GetElapsedTime(start).TotalMilliseconds:f0} ms, with the enabling {Describe(hits.Stall)}");
        Assert.That(hits.Count, Is.GreaterThan(1000));
    }

    private static string Describe(in ProbeStall stall) =>
        $"{stall.Stops} stops of {stall.Total.TotalMilliseconds:f1} ms together, the longest of {stall.Longest.TotalMilliseconds:f2} ms";

    /// <summary>The median of some runs, in milliseconds.</summary>
    private static double Time(Action action)
    {
        double[] times = new double[Rounds];
        for (int i = 0; i < Rounds; i++)
        {
            long start = Stopwatch.GetTimestamp();
            action();
            times[i] = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        }

        Array.Sort(times);
        return times[Rounds / 2];
    }

    private static double Transactions(string output) =>
        double.Parse(output.Split('\n').First(l => l.Contains("actually processed", StringComparison.Ordinal)).Split(':')[1].Split('/')[0], CultureInfo.InvariantCulture);
}
