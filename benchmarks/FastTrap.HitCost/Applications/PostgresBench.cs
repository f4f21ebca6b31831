using System.Globalization;
using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>A PostgreSQL server of our own on a Unix socket with the tables of pgbench, and a pgbench that reads from them all the time; stopped and removed when disposed.</summary>
internal sealed class PostgresBench : IDisposable
{
    private const int SIGINT = 2;
    private const uint Nobody = 65534;
    private const string Superuser = "bench";

    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(1);

    private readonly PrivateDirectory _directory = new("pgbench", Posix.geteuid() == 0 ? Nobody : null);
    private readonly TargetProcess _server;
    private readonly TargetProcess _bench;

    /// <param name="clients">Connections, each with a server process.</param>
    /// <param name="seconds">After which pgbench ends in any case.</param>
    public PostgresBench(int clients, int seconds)
    {
        TargetStart options = new() { User = Posix.geteuid() == 0 ? Nobody : null, WorkingDirectory = "/", Timeout = s_patience };
        TargetStart client = options with { Environment = new Dictionary<string, string> { ["PGHOST"] = _directory.FullPath, ["PGUSER"] = Superuser } };
        string data = _directory["data"];
        try
        {
            RunToEnd(Find("initdb"), ["-D", data, "-A", "trust", "-U", Superuser, "--no-sync", "--no-locale", "-E", "UTF8"], options);
            string server = $"exec '{Find("postgres")}' -D '{data}' -k '{_directory.FullPath}' -F -c listen_addresses= -c shared_buffers=64MB -c autovacuum=off 2>&1";
            _server = TargetProcess.Start("/bin/sh", ["-c", server], options);
            _server.ReadLineContaining("ready to accept connections");
            RunToEnd(Find("pgbench"), ["-i", "-q", "postgres"], client);
            string bench = string.Create(CultureInfo.InvariantCulture, $"exec '{Find("pgbench")}' -n -S -M simple -c {clients} -j 1 -T {seconds} -P 1 --progress-timestamp postgres 2>&1");
            _bench = TargetProcess.Start("/bin/sh", ["-c", bench], client);
            _bench.ReadLineStarting("progress: ");
            Backends = FindBackends();
            if (Backends.Count != clients)
            {
                throw new InvalidOperationException($"{clients} clients, but {Backends.Count} server processes.");
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The server's processes of pgbench's connections.</summary>
    public IReadOnlyList<int> Backends { get; }

    public string Executable { get; } = Path.GetFullPath(File.ResolveLinkTarget(Find("postgres"), returnFinalTarget: true)?.FullName ?? Find("postgres"));

    /// <summary>Why there can be none here; null: there can.</summary>
    public static string? Missing => new[] { "initdb", "postgres", "pgbench" }.Any(name => TryFind(name) is null) ? "missing: install postgresql" : null;

    /// <summary>Transactions a second, over so many seconds which begin after now.</summary>
    public double Measure(int seconds)
    {
        double from = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1e3;
        double sum = 0;
        for (int taken = 0; taken < seconds;)
        {
            // "progress: 1732266000.123 s, 24000.3 tps, lat ...": of the second before that time.
            string[] words = _bench.ReadLineStarting("progress: ").Split(' ');
            if (double.Parse(words[1], CultureInfo.InvariantCulture) - 1 >= from)
            {
                sum += double.Parse(words[3], CultureInfo.InvariantCulture);
                taken++;
            }
        }

        return sum / seconds;
    }

    public void Dispose()
    {
        try
        {
            _bench?.Dispose();
            if (_server is { Exit: null })
            {
                // A server that is killed leaves its processes behind for a while.
                _server.Signal(SIGINT);
                _server.TryWaitForExit(s_patience);
            }
        }
        finally
        {
            _server?.Dispose();
            _directory.Dispose();
        }
    }

    /// <summary>By the parent, and by what they call themselves: "postgres: bench postgres [local] SELECT".</summary>
    private List<int> FindBackends()
    {
        List<int> found = [];
        string children = File.ReadAllText($"/proc/{_server.ProcessId}/task/{_server.ProcessId}/children");
        foreach (int child in children.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(word => int.Parse(word, CultureInfo.InvariantCulture)))
        {
            if (File.ReadAllText($"/proc/{child}/cmdline").Contains($": {Superuser} postgres ", StringComparison.Ordinal))
            {
                found.Add(child);
            }
        }

        return found;
    }

    private static void RunToEnd(string path, IReadOnlyList<string> arguments, TargetStart options)
    {
        using TargetProcess process = TargetProcess.Start(path, arguments, options);
        TargetExit exit = process.WaitForExit();
        if (exit != new TargetExit(0, 0))
        {
            throw new InvalidOperationException($"{path}: {exit}\n{process.Errors}");
        }
    }

    private static string Find(string name) => TryFind(name) ?? throw new FileNotFoundException($"{name} is not installed.");

    /// <summary>The wrappers in /usr/bin look for clusters of the system, so the version's own directory comes first.</summary>
    private static string? TryFind(string name)
    {
        const string Versions = "/usr/lib/postgresql";
        string? path = Directory.Exists(Versions)
            ? Directory.GetDirectories(Versions).OrderDescending(StringComparer.Ordinal).Select(d => Path.Combine(d, "bin", name)).FirstOrDefault(File.Exists)
            : null;
        return path ?? Command.Find(name);
    }
}
