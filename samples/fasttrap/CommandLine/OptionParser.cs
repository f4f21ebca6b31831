using System.Globalization;

namespace FastTrap.Tool.CommandLine;

/// <summary>Reads the command line.</summary>
internal static class OptionParser
{
    private static readonly string[] s_verbs = ["list", "trace", "count", "latency", "stack", "clean"];

    /// <summary>Reads everything after the program's name.</summary>
    /// <exception cref="UsageException">Something is missing or unknown.</exception>
    public static ToolOptions Parse(IReadOnlyList<string> arguments)
    {
        ToolOptions options = new() { Verb = "" };
        List<int> processes = [];
        List<string> words = [];
        bool optionsEnded = false;
        for (int i = 0; i < arguments.Count; i++)
        {
            string argument = arguments[i];
            if (optionsEnded || argument.Length < 2 || argument[0] != '-')
            {
                words.Add(argument);
                continue;
            }

            if (argument == "--")
            {
                optionsEnded = true;
                continue;
            }

            (string name, string? attached) = SplitOption(argument);
            switch (name)
            {
                case "-p" or "--pid":
                    processes.Add(Integer(name, Value(), 1, int.MaxValue));
                    break;
                case "-c" or "--command":
                    options = options with { Command = CommandSplitter.Split(Value()) };
                    break;
                case "-o" or "--output":
                    options = options with { OutputPath = Value() };
                    break;
                case "-d" or "--duration":
                    options = options with { Duration = Seconds(name, Value()) };
                    break;
                case "--mechanism":
                    options = options with { Mechanism = Mechanism(Value()) };
                    break;
                case "--args":
                    options = options with { ArgumentCount = Integer(name, Value(), 0, ProbeOptions.MaximumArgumentCount) };
                    break;
                case "--depth":
                    options = options with { StackDepth = Integer(name, Value(), 1, 512) };
                    break;
                case "--json" or "--folded" or "--all" or "-f" or "--follow" or "-v" or "--verbose" when attached is not null:
                    throw new UsageException($"{name} takes no value.");
                case "-f" or "--follow":
                    options = options with { Follow = true };
                    break;
                case "--json":
                    options = options with { Json = true };
                    break;
                case "--folded":
                    options = options with { Folded = true };
                    break;
                case "--all":
                    options = options with { All = true };
                    break;
                case "-v" or "--verbose":
                    options = options with { Verbose = true };
                    break;
                default:
                    throw new UsageException($"{argument} is no option. 'fasttrap --help' lists them.");
            }

            string Value() =>
                attached ?? (i + 1 < arguments.Count ? arguments[++i] : throw new UsageException($"{name} needs a value."));
        }

        return Complete(options with { ProcessIds = [.. processes.Distinct()] }, words);
    }

    private static ToolOptions Complete(ToolOptions options, List<string> words)
    {
        if (words.Count == 0)
        {
            throw new UsageException($"Say what to do: {string.Join(", ", s_verbs)}. 'fasttrap --help' explains them.");
        }

        string verb = words[0];
        if (!s_verbs.Contains(verb))
        {
            throw new UsageException($"'{verb}' is no verb. There are: {string.Join(", ", s_verbs)}.");
        }

        words.RemoveAt(0);
        if (options.Command.Count > 0 && options.ProcessIds.Count > 0)
        {
            throw new UsageException("Give either -p or -c.");
        }

        bool hasProcess = options.Command.Count > 0 || options.ProcessIds.Count > 0;
        string? file = null;
        if (verb == "list" && !hasProcess)
        {
            file = words.Count > 0 ? words[0] : throw new UsageException("list needs -p PID, -c 'COMMAND', or a file: fasttrap list /bin/ls ':main:entry'.");
            words.RemoveAt(0);
        }
        else if (!hasProcess)
        {
            throw new UsageException($"{verb} needs a process: -p PID for a running one, or -c 'COMMAND ARGS' to start one.");
        }

        if (verb == "clean" && (words.Count != 0 || options.ProcessIds.Count == 0))
        {
            throw new UsageException("clean takes nothing but -p PID.");
        }

        if (words.Count == 0 && verb is not ("list" or "clean"))
        {
            throw new UsageException($"{verb} needs the probes, for example libc.so.6:malloc:entry. 'fasttrap list' shows what there is.");
        }

        if (options.Folded && verb != "stack")
        {
            throw new UsageException("--folded belongs to stack.");
        }

        if (options.Follow && verb is not ("trace" or "count"))
        {
            throw new UsageException("--follow belongs to trace and count.");
        }

        if (options.Mechanism != ProbeMechanism.Auto && verb is "list" or "clean")
        {
            throw new UsageException("--mechanism belongs to trace, count, latency and stack.");
        }

        // Listing every instruction of everything is never meant.
        IEnumerable<string> descriptions = words.Count > 0 ? words : [":::entry"];
        return options with { Verb = verb, File = file, Descriptions = [.. descriptions.Select(Description)] };
    }

    private static ProbeDescription Description(string text) =>
        ProbeDescription.TryParse(text, out ProbeDescription? description, out string? error) ? description : throw new UsageException(error);

    /// <summary><c>--name=value</c> and <c>-p42</c> are two words in one.</summary>
    private static (string Name, string? Value) SplitOption(string argument)
    {
        if (argument.StartsWith("--", StringComparison.Ordinal))
        {
            int equals = argument.IndexOf('=', StringComparison.Ordinal);
            return equals < 0 ? (argument, null) : (argument[..equals], argument[(equals + 1)..]);
        }

        return argument.Length == 2 ? (argument, null) : (argument[..2], argument[2..]);
    }

    private static int Integer(string name, string text, int least, int most) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int value) && value >= least && value <= most
            ? value
            : throw new UsageException(most == int.MaxValue
                ? $"{name}: '{text}' is no process id; 'pgrep NAME' finds one."
                : $"{name}: '{text}' is no number from {least} to {most}.");

    private static ProbeMechanism Mechanism(string text) => text switch
    {
        "auto" => ProbeMechanism.Auto,
        "breakpoint" => ProbeMechanism.Breakpoint,
        "jump" => ProbeMechanism.Jump,
        "trap" => ProbeMechanism.InProcessTrap,
        _ => throw new UsageException($"--mechanism: '{text}' is none of auto, jump, trap, breakpoint."),
    };

    private static TimeSpan Seconds(string name, string text) =>
        double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double seconds) && seconds is > 0 and <= 1_000_000
            ? TimeSpan.FromSeconds(seconds)
            : throw new UsageException($"{name}: '{text}' is no number of seconds, such as 10 or 0.5.");
}
