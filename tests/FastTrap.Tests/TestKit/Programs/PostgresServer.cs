using System.Globalization;

namespace FastTrap.Tests.TestKit.Programs;

/// <summary>A private PostgreSQL server on a Unix socket, with a pgbench database; stopped and removed when disposed.</summary>
internal sealed class PostgresServer : IDisposable
{
    private const int SIGINT = 2;
    private const string Superuser = "tester";
    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(3);
    private readonly PrivateDirectory _directory;
    private readonly TargetProcess _server;

    private PostgresServer(PrivateDirectory directory, TargetProcess server)
    {
        _directory = directory;
        _server = server;
    }

    /// <summary>The first server process, the parent of the backends.</summary>
    public int ProcessId => _server.ProcessId;

    /// <summary>What a shell is to execute to start it again, as its user, in its directory.</summary>
    public string Command { get; private init; } = "";

    /// <summary>Program and arguments by which a tracer starts the server anew, once it was stopped: postgres does not run as root.</summary>
    public IReadOnlyList<string> StartAgain =>
        RealPrograms.UnprivilegedUser == Posix.geteuid()
            ? ["/bin/sh", "-c", Command]
            : [RealPrograms.Require("setpriv"), $"--reuid={RealPrograms.UnprivilegedUser}", $"--regid={RealPrograms.UnprivilegedUser}", "--clear-groups", "/bin/sh", "-c", Command];

    /// <summary>Whether it takes connections.</summary>
    public bool IsReady => TestKit.Command.Run(Find("psql"), ["-XAtq", "-c", "select 1", "postgres"], s_timeout, ClientEnvironment()).ExitCode == 0;

    /// <summary>The executable that runs.</summary>
    public string ExecutablePath => Path.GetFullPath(File.ResolveLinkTarget($"/proc/{ProcessId}/exe", returnFinalTarget: false)?.FullName ?? "");

    /// <summary>Makes a cluster, starts it and fills the pgbench tables; skips the test when PostgreSQL is not installed.</summary>
    public static PostgresServer Start(int scale = 1, IReadOnlyDictionary<string, string>? environment = null)
    {
        string postgres = Find("postgres");
        string initdb = Find("initdb");
        _ = Find("pgbench");
        uint user = RealPrograms.UnprivilegedUser;
        PrivateDirectory directory = new("postgres", user);
        TargetProcess? server = null;
        try
        {
            TargetStart options = new() { User = user, WorkingDirectory = "/", Timeout = s_timeout };
            string data = directory["data"];
            using (TargetProcess making = TargetProcess.Start(initdb, ["-D", data, "-A", "trust", "-U", Superuser, "--no-sync", "--no-locale", "-E", "UTF8"], options))
            {
                Assert.That(making.WaitForExit().Code, Is.Zero, () => making.Errors);
            }

            string command = $"exec '{postgres}' -D '{data}' -k '{directory.FullPath}' -F -c listen_addresses= -c shared_buffers=16MB 2>&1";
            server = TargetProcess.Start("/bin/sh", ["-c", command], options with { Environment = environment });
            server.ReadLineContaining("ready to accept connections");
            PostgresServer result = new(directory, server) { Command = command };
            result.Bench("-i", "-q", "-s", scale.ToString(CultureInfo.InvariantCulture));
            return result;
        }
        catch
        {
            server?.Dispose();
            directory.Dispose();
            throw;
        }
    }

    /// <summary>Runs SQL; the rows without headings, columns separated by <c>|</c>.</summary>
    public string Query(string sql) => Run("psql", ["-XAtq", "-c", sql, "postgres"]).Trim();

    /// <summary>Writes a file into the server's directory and gives its path.</summary>
    public string Write(string name, string text)
    {
        File.WriteAllText(_directory[name], text);
        return _directory[name];
    }

    /// <summary>Runs pgbench to its end and gives its output.</summary>
    public string Bench(params string[] arguments) => Run("pgbench", [.. arguments, "postgres"]);

    /// <summary>Runs pgbench on another database to its end and gives its output.</summary>
    public string BenchIn(string database, params string[] arguments) => Run("pgbench", [.. arguments, database]);

    /// <summary>Starts pgbench and lets it run, for example with <c>-c 4 -T 20</c>. Dispose it.</summary>
    public TargetProcess StartBench(params string[] arguments) =>
        TargetProcess.Start(Find("pgbench"), [.. arguments, "postgres"], new TargetStart { Environment = ClientEnvironment(), Timeout = s_timeout });

    /// <summary>Starts a session which executes the lines it is sent. Dispose it.</summary>
    public TargetProcess StartSession() =>
        TargetProcess.Start(Find("psql"), ["-XAtq", "postgres"], new TargetStart { Environment = ClientEnvironment(), Timeout = s_timeout });

    /// <summary>Committed transactions of the database by the server's own statistics.</summary>
    public long CommittedTransactions() =>
        long.Parse(Query("select pg_stat_force_next_flush(); select xact_commit from pg_stat_database where datname = 'postgres'").Split('\n')[^1], CultureInfo.InvariantCulture);

    /// <summary>The processes of client connections.</summary>
    public IReadOnlyList<int> Backends() =>
        [.. Query("select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()")
            .Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => int.Parse(line, CultureInfo.InvariantCulture))];

    /// <summary>Stops it in good order and gives its exit.</summary>
    public TargetExit Stop()
    {
        _server.Signal(SIGINT);
        return _server.WaitForExit();
    }

    public void Dispose()
    {
        try
        {
            if (_server.Exit is null)
            {
                // A server that is killed leaves its backends behind for a while.
                _server.Signal(SIGINT);
                _server.TryWaitForExit(TimeSpan.FromSeconds(20));
            }
        }
        finally
        {
            _server.Dispose();
            _directory.Dispose();
        }
    }

    private static string Find(string name)
    {
        // The wrappers in /usr/bin look for clusters of the system, so the version's own directory comes first.
        const string Versions = "/usr/lib/postgresql";
        string? path = Directory.Exists(Versions)
            ? Directory.GetDirectories(Versions).OrderDescending(StringComparer.Ordinal).Select(d => Path.Combine(d, "bin", name)).FirstOrDefault(File.Exists)
            : null;
        return path ?? RealPrograms.Require(name);
    }

    private string Run(string name, IReadOnlyList<string> arguments)
    {
        CommandResult result = TestKit.Command.Run(Find(name), arguments, s_timeout, ClientEnvironment());
        return result.ExitCode == 0 ? result.Output : throw new InvalidOperationException($"{name} {string.Join(' ', arguments)}: exit {result.ExitCode}\n{result.Error}");
    }

    private Dictionary<string, string> ClientEnvironment() => new() { ["PGHOST"] = _directory.FullPath, ["PGUSER"] = Superuser };
}
