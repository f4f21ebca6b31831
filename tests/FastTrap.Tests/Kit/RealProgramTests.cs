using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Kit;

/// <summary>The real programs start, work, tell their statistics and stop; the kernel's uprobes count as the program does.</summary>
[TestFixture, NonParallelizable]
public sealed class RealProgramTests
{
    [Test]
    public void PostgresRunsTransactionsAndStops()
    {
        using PostgresServer server = PostgresServer.Start();
        Assert.That(File.ReadAllText($"/proc/{server.ProcessId}/comm").Trim(), Is.EqualTo("postgres"));
        long before = server.CommittedTransactions();
        Assert.That(server.Bench("-c", "2", "-t", "50", "-n"), Does.Contain("100/100"));
        Assert.That(server.CommittedTransactions() - before, Is.GreaterThanOrEqualTo(100));
        Assert.That(server.Stop().Code, Is.Zero);
    }

    [Test]
    public void RedisCountsItsCommands()
    {
        using RedisServer server = RedisServer.Start();
        server.Bench("-n", "1000", "-c", "5", "-t", "set", "-q");
        Assert.That(server.CallsOf("set"), Is.EqualTo(1000));
        Assert.That(server.CallsOf("get"), Is.Zero);
        Assert.That(TextCheck.Compare(server.ProcessId), Is.Empty);
        Assert.That(server.Stop().Code, Is.Zero);
    }

    [Test]
    public void PythonWaitsAndEnds()
    {
        using TargetProcess python = RealPrograms.StartPython("""
            ready()
            print("got", wait(), flush=True)
            sys.exit(5)
            """);
        python.SendLine("it");
        Assert.That(python.ReadLine(), Is.EqualTo("got it"));
        Assert.That(python.WaitForExit().Code, Is.EqualTo(5));
    }

    [Test]
    public void JavaRuns()
    {
        using PrivateDirectory directory = new("java");
        using TargetProcess java = RealPrograms.StartJava(
            """
            class Program {
                public static void main(String[] arguments) throws Exception {
                    System.out.println("ready " + ProcessHandle.current().pid());
                    System.exit(System.in.read() - '0');
                }
            }
            """,
            directory);
        java.SendLine("7");
        Assert.That(java.WaitForExit().Code, Is.EqualTo(7));
    }

    [Test]
    public void UprobesCountAsTheTargetDoes([Values] UprobeSite site, [Values] bool everywhere)
    {
        using TargetProcess target = TargetProcess.StartTarget("threads", new TargetVariant(TargetLink.NoPie), ["8"]);
        using (UprobeOracle oracle = everywhere
            ? UprobeOracle.AttachEverywhere(target.Path, "hot", site) : UprobeOracle.Attach(target.ProcessId, target.Path, "hot", site))
        {
            Assert.That(target.SendAndReadCount("go 100", "hot"), Is.EqualTo(800));
            Assert.That(oracle.Count, Is.EqualTo(800));
            Assert.That(target.SendAndReadCount("churn 7", "hot"), Is.EqualTo(7));
            Assert.That(oracle.Count, Is.EqualTo(everywhere ? 807 : 800));
        }

        Assert.That(target.SendAndReadCount("go 1", "hot"), Is.EqualTo(8));
        Assert.That(TextCheck.Compare(target.ProcessId), Is.Empty);
    }
}
