using System.Globalization;
using System.Text.Json;
using FastTrap.Tests.TestKit;
using FastTrap.Tests.TestKit.Programs;

namespace FastTrap.Tests.Tool;

/// <summary>
/// Stacks of real programs, walked by code in them and by the tracer at stops: a program does the same work under both, and every stack comes as often. How many hits there are the program's work says.
/// </summary>
[TestFixture, NonParallelizable]
public sealed class ToolStackTests
{
    private const int Calls = 200;

    private static readonly string s_pythonSource = $$"""
        import json
        def down(n):
            return down(n - 1) if n else os.getppid()
        def work():
            total = sum(down(i % 7) > 0 for i in range({{Calls}}))
            return total, len(json.dumps([str(j) for j in range(2000)]))
        work()
        ready()
        while wait() == "work": print("result", *work(), flush=True)
        """;

    private static readonly string s_javaSource = $$"""
        import java.io.*;
        public class Program {
            static int down(int n) { return n == 0 ? ("word" + n % 37).intern().length() : down(n - 1); }
            static int work() {
                int sum = 0;
                for (int i = 0; i < {{Calls}}; i++) sum += down(i % 7);
                return sum;
            }
            public static void main(String[] arguments) throws Exception {
                work();
                System.out.print("ready ");
                System.out.println(ProcessHandle.current().pid());
                BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
                while (input.readLine().equals("work")) {
                    // Strings that are joined are linked by calls that intern names, now and later.
                    System.out.print("result ");
                    System.out.println(work());
                }
                System.exit(0);
            }
        }
        """;

    [Test]
    public void OfPython()
    {
        using TargetProcess python = RealPrograms.StartPython(s_pythonSource);
        Compare(python.ProcessId, "libc.so.6", Work, 2, "libc.so.6:getppid:entry");
        Compare(python.ProcessId, "libc.so.6", Work, 2, "libc.so.6:getppid:return");
        python.SendLine("");
        Assert.That(python.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), python.Errors);

        void Work()
        {
            python.SendLine("work");
            python.ReadLineStarting("result ");
        }
    }

    [Test]
    public void OfLibjvm()
    {
        using PrivateDirectory directory = new("java-stacks");
        using TargetProcess java = RealPrograms.StartJava(s_javaSource, directory, ["-Xint", "-Xmx64m", "-XX:+UseSerialGC"]);

        // What happens the first time only is over then. Interpreted frames have frame pointers: a stack goes down to the recursion.
        Work();
        Compare(java.ProcessId, "libjvm.so", Work, 7, "libjvm.so:JVM_InternString:entry");
        java.SendLine("");
        Assert.That(java.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), java.Errors);

        void Work()
        {
            java.SendLine("work");
            java.ReadLineStarting("result ");
        }
    }

    [Test]
    public void OfPostgres()
    {
        using PostgresServer server = PostgresServer.Start();
        using TargetProcess session = server.StartSession();
        Work();
        Compare(server.Backends().Single(), "postgres", Work, 2, "a.out:PortalRun:entry");
        session.SendLine("\\q");
        Assert.That(session.WaitForExit().Code, Is.Zero);
        Assert.That(server.Stop(), Is.EqualTo(new TargetExit(0, 0)));

        void Work()
        {
            for (int i = 0; i < Calls; i++)
            {
                session.SendLine("SELECT 'answer', abalance FROM pgbench_accounts WHERE aid = 1;");
                session.ReadLineStarting("answer");
            }
        }
    }

    private static void Compare(int processId, string module, Action work, int frames, string description)
    {
        Dictionary<string, long> byJump = Gather("jump");
        Dictionary<string, long> byStops = Gather("breakpoint");
        Assert.That(byJump.Values.Sum(), Is.EqualTo(Calls));
        Assert.That(byJump, Is.EquivalentTo(byStops));
        Assert.That(byJump.Keys.Max(stack => stack.Split('\n').Length), Is.GreaterThanOrEqualTo(frames));

        Dictionary<string, long> Gather(string mechanism)
        {
            using PrivateDirectory directory = new("stacks");
            using TargetProcess tool = TargetProcess.Start(ToolTests.Tool, ["stack", "--json", "--mechanism", mechanism, "-o", directory["stacks"], "-p", $"{processId}", description]);
            while (!TextCheck.Compare(processId).Any(difference => Path.GetFileName(difference.Path) == module) && tool.Exit is null)
            {
                tool.TryWaitForExit(TimeSpan.FromMilliseconds(10));
            }

            work();
            tool.Signal(Posix.SIGTERM);
            Assert.That(tool.WaitForExit(), Is.EqualTo(new TargetExit(0, 0)), () => tool.Errors);
            Assert.That(tool.Errors, Does.Contain($"a hit costs by {mechanism} ").And.Not.Contain("lost"));
            TextCheck.AssertClean(processId);
            Dictionary<string, long> stacks = [];
            foreach (JsonElement line in File.ReadAllLines(directory["stacks"]).Select(line => JsonDocument.Parse(line).RootElement))
            {
                string stack = string.Join('\n', line.GetProperty("stack").EnumerateArray().Select(frame => frame.GetString()!).TakeWhile(frame => IsCode(processId, frame)));
                stacks[stack] = stacks.GetValueOrDefault(stack) + line.GetProperty("count").GetInt64();
            }

            return stacks;
        }
    }

    /// <summary>Where code has no frame pointers, what follows may be no code, and other things the next time.</summary>
    private static bool IsCode(int processId, string frame)
    {
        if (!frame.StartsWith("0x", StringComparison.Ordinal))
        {
            return true;
        }

        ulong address = ulong.Parse(frame.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        return File.ReadLines($"/proc/{processId}/maps").Select(line => line.Split(' ')).Any(fields =>
        {
            ulong[] range = [.. fields[0].Split('-').Select(end => ulong.Parse(end, NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
            return fields[1][2] == 'x' && address >= range[0] && address < range[1];
        });
    }
}
