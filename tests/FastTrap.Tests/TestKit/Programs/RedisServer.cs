using System.Globalization;

namespace FastTrap.Tests.TestKit.Programs;

/// <summary>A private Redis server on a Unix socket, keeping nothing; stopped and removed when disposed.</summary>
internal sealed class RedisServer : IDisposable
{
    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(3);
    private readonly PrivateDirectory _directory;
    private readonly TargetProcess _server;

    private RedisServer(PrivateDirectory directory, TargetProcess server)
    {
        _directory = directory;
        _server = server;
    }

    public int ProcessId => _server.ProcessId;

    /// <summary>Starts it; skips the test when Redis is not installed.</summary>
    public static RedisServer Start(uint? user = null, IReadOnlyDictionary<string, string>? environment = null)
    {
        string path = RealPrograms.Require("redis-server");
        _ = RealPrograms.Require("redis-benchmark");
        _ = RealPrograms.Require("redis-cli");
        PrivateDirectory directory = new("redis", user);
        TargetProcess? server = null;
        try
        {
            server = TargetProcess.Start(
                path,
                ["--port", "0", "--unixsocket", directory["redis.sock"], "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", directory.FullPath],
                new TargetStart { User = user, Environment = environment, Timeout = s_timeout });
            server.ReadLineContaining("eady to accept connections");
            return new RedisServer(directory, server);
        }
        catch
        {
            server?.Dispose();
            directory.Dispose();
            throw;
        }
    }

    /// <summary>Sends a command and gives the answer.</summary>
    public string Send(params string[] words) => Run("redis-cli", words).Trim();

    /// <summary>Runs redis-benchmark to its end, for example with <c>-n 10000 -t set,get -q</c>.</summary>
    public string Bench(params string[] arguments) => Run("redis-benchmark", arguments);

    /// <summary>Starts redis-benchmark and lets it run. Dispose it.</summary>
    public TargetProcess StartBench(params string[] arguments) =>
        TargetProcess.Start(RealPrograms.Require("redis-benchmark"), ["-s", _directory["redis.sock"], .. arguments], new TargetStart { Timeout = s_timeout });

    /// <summary>How often the server has executed a command, by its own statistics; 0 if never.</summary>
    public long CallsOf(string command)
    {
        string prefix = $"cmdstat_{command}:calls=";
        string? line = Send("info", "commandstats").Split('\n').FirstOrDefault(text => text.StartsWith(prefix, StringComparison.Ordinal));
        return line is null ? 0 : long.Parse(line[prefix.Length..line.IndexOf(',', StringComparison.Ordinal)], CultureInfo.InvariantCulture);
    }

    /// <summary>A number of the server's own statistics, for example <c>total_commands_processed</c>.</summary>
    public long Statistic(string name) =>
        long.Parse(Send("info", "stats").Split('\n').First(text => text.StartsWith(name + ":", StringComparison.Ordinal))[(name.Length + 1)..], CultureInfo.InvariantCulture);

    /// <summary>Stops its threads where they are, and waits for that.</summary>
    public void Freeze()
    {
        _server.Signal(Posix.SIGSTOP);
        Assert.That(() => AreAllThreadsStopped(), Is.True.After(20_000, 1));
    }

    /// <summary>Lets it go on after <see cref="Freeze"/>.</summary>
    public void Thaw() => _server.Signal(Posix.SIGCONT);

    /// <summary>Stops it in good order and gives its exit.</summary>
    public TargetExit Stop()
    {
        _server.Signal(Posix.SIGTERM);
        return _server.WaitForExit();
    }

    public void Dispose()
    {
        try
        {
            _server.Dispose();
        }
        finally
        {
            _directory.Dispose();
        }
    }

    private bool AreAllThreadsStopped() => Directory.GetDirectories($"/proc/{ProcessId}/task")
        .Select(thread => File.ReadAllText(Path.Combine(thread, "stat"))).All(text => text[text.LastIndexOf(')') + 2] is 'T' or 't');

    private string Run(string name, IReadOnlyList<string> arguments)
    {
        CommandResult result = Command.Run(RealPrograms.Require(name), ["-s", _directory["redis.sock"], .. arguments], s_timeout);
        return result.ExitCode == 0 ? result.Output : throw new InvalidOperationException($"{name}: exit {result.ExitCode}\n{result.Error}");
    }
}
