using System.Globalization;
using System.Text;

namespace FastTrap.Tests.TestKit;

/// <summary>How a target ended.</summary>
internal readonly record struct TargetExit(int Code, int Signal);

/// <summary>Settings for starting a target; all have defaults.</summary>
internal sealed record TargetStart
{
    /// <summary>The user to run as; null for the tests' own. Only root can choose.</summary>
    public uint? User { get; init; }

    public IReadOnlyDictionary<string, string>? Environment { get; init; }

    public string? WorkingDirectory { get; init; }

    /// <summary>How long every wait of this target may last.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(60);
}

/// <summary>A running program with its three streams, always ended when disposed.</summary>
/// <remarks>
/// One thread at a time. Its parent is a small runner (<c>tests/targets/runner.c</c>), not the tests: the exit code of a child which the same process
/// also traces goes to whichever of the two waits comes first. The runner also ends it should the tests die.
/// </remarks>
internal sealed class TargetProcess : IDisposable
{
    private readonly int _runner;
    private readonly int _handle;
    private readonly int _errors;
    private readonly LineReader _control;
    private readonly LineReader _output;
    private readonly List<string> _read = [];
    private readonly TimeSpan _timeout;
    private int _input;
    private bool _isDisposed;

    private TargetProcess(string path, int runner, int processId, LineReader control, int input, int output, int errors, TimeSpan timeout)
    {
        Path = path;
        _runner = runner;
        ProcessId = processId;
        _control = control;
        _input = input;
        _output = new LineReader(output);
        _errors = errors;
        _timeout = timeout;
        _handle = Posix.OpenProcess(processId);
    }

    public string Path { get; }

    public int ProcessId { get; }

    /// <summary>How it ended, null while it runs or nobody looked.</summary>
    public TargetExit? Exit { get; private set; }

    /// <summary>Every line that was read from its standard output, the ready line too.</summary>
    public IReadOnlyList<string> Lines => _read;

    /// <summary>Everything it has written to standard error so far.</summary>
    public string Errors => Command.ReadAll(_errors);

    /// <summary>Builds a target, starts it and waits for its ready line.</summary>
    public static TargetProcess StartTarget(string name, TargetVariant? variant = null, IReadOnlyList<string>? arguments = null, TargetStart? options = null)
    {
        TargetProcess target = Start(TargetBuilder.Build(name, variant), arguments, options);
        try
        {
            target.WaitReady();
            return target;
        }
        catch
        {
            target.Dispose();
            throw;
        }
    }

    /// <summary>Starts a program.</summary>
    /// <exception cref="IOException">It cannot be executed.</exception>
    public static TargetProcess Start(string path, IReadOnlyList<string>? arguments = null, TargetStart? options = null)
    {
        options ??= new TargetStart();
        List<string> all = options.User is uint user && user != Posix.geteuid() ? ["-u", user.ToString(CultureInfo.InvariantCulture)] : [];
        all.AddRange(["--", path, .. arguments ?? []]);
        string runnerPath = TargetBuilder.Build("runner");
        (int childInput, int input) = Posix.MakePipe();
        (int output, int childOutput) = Posix.MakePipe();
        (int control, int childControl) = Posix.MakeSocketPair();
        int errors = Posix.OpenNamelessFile();
        int runner = Posix.Spawn(
            runnerPath, all, Environments.With(options.Environment), options.WorkingDirectory, childInput, childOutput, errors, childControl);
        Posix.Close(childInput);
        Posix.Close(childOutput);
        Posix.Close(childControl);

        LineReader reports = new(control);
        string[] words = (reports.ReadLine(options.Timeout) ?? "error 0").Split(' ');
        int number = int.Parse(words[1], CultureInfo.InvariantCulture);
        if (words[0] == "pid")
        {
            return new TargetProcess(path, runner, number, reports, input, output, errors, options.Timeout);
        }

        reports.Dispose();
        Posix.Close(input);
        Posix.Close(output);
        Posix.Close(errors);
        Posix.WaitForChild(runner);
        throw new IOException($"{path} could not be started (errno {number}).", number);
    }

    /// <summary>Waits for <c>ready PID</c>; lines before it are kept in <see cref="Lines"/>.</summary>
    public void WaitReady()
    {
        string line = ReadLineStarting("ready ");
        if (line != $"ready {ProcessId}")
        {
            throw new InvalidOperationException($"{Path} says '{line}', but it was started as {ProcessId}.");
        }
    }

    /// <summary>Sends a line to its standard input.</summary>
    public void SendLine(string line)
    {
        if (!Posix.Write(_input, Encoding.UTF8.GetBytes(line + "\n")))
        {
            throw new IOException($"{Path} does not read its standard input any more.\n{Describe()}");
        }
    }

    /// <summary>Closes its standard input.</summary>
    public void CloseInput()
    {
        Posix.Close(_input);
        _input = -1;
    }

    /// <summary>The next line of its standard output, null at the end.</summary>
    /// <exception cref="TimeoutException">None came in time.</exception>
    public string? ReadLine()
    {
        try
        {
            string? line = _output.ReadLine(_timeout);
            if (line is not null)
            {
                _read.Add(line);
            }

            return line;
        }
        catch (TimeoutException exception)
        {
            throw new TimeoutException($"{exception.Message}\n{Describe()}", exception);
        }
    }

    /// <summary>Reads on until a line that begins so.</summary>
    /// <exception cref="EndOfStreamException">There was none.</exception>
    public string ReadLineStarting(string prefix) => ReadLineWhere(line => line.StartsWith(prefix, StringComparison.Ordinal), prefix + "...");

    /// <summary>Reads on until a line that holds a text.</summary>
    /// <exception cref="EndOfStreamException">There was none.</exception>
    public string ReadLineContaining(string text) => ReadLineWhere(line => line.Contains(text, StringComparison.Ordinal), $"...{text}...");

    /// <summary>Reads on until the line <c>count NAME N</c> and gives the number.</summary>
    public long ReadCount(string name) => NumberAfter(ReadLineStarting($"count {name} "));

    /// <summary>Sends a command and gives the number of the line <c>count NAME N</c> with which it is answered.</summary>
    public long SendAndReadCount(string command, string name)
    {
        SendLine(command);
        return ReadCount(name);
    }

    /// <summary>The number of a line <c>count NAME N</c> that was read already.</summary>
    public long GetCount(string name) => NumberAfter(Lines.Last(line => line.StartsWith($"count {name} ", StringComparison.Ordinal)));

    /// <summary>Reads all output to the end, and waits for the exit.</summary>
    public TargetExit WaitForExit()
    {
        while (ReadLine() is not null)
        {
            // Every line is kept.
        }

        return WaitForExitOnly(_timeout);
    }

    /// <summary>Whether it ends within a time; its output is read meanwhile.</summary>
    public bool TryWaitForExit(TimeSpan timeout)
    {
        long end = Environment.TickCount64 + (long)timeout.TotalMilliseconds;
        while (Exit is null)
        {
            if (_control.HasLine)
            {
                WaitForExitOnly(TimeSpan.Zero);
                return true;
            }

            Span<Posix.PollFd> waits =
            [
                new() { Descriptor = _control.Descriptor, Events = Posix.POLLIN },
                new() { Descriptor = _output.IsAtEnd ? -1 : _output.Descriptor, Events = Posix.POLLIN },
            ];
            if (Posix.Poll(waits, (int)Math.Max(0, end - Environment.TickCount64)) == 0)
            {
                return false;
            }

            if (waits[1].ReturnedEvents != 0)
            {
                _output.Fill();
            }

            if (waits[0].ReturnedEvents != 0)
            {
                WaitForExitOnly(TimeSpan.Zero);
            }
        }

        return true;
    }

    /// <summary>Sends a signal; false if it has ended.</summary>
    public bool Signal(int signal) => _handle >= 0 && Posix.SendSignal(_handle, signal);

    /// <summary>Its state letter in <c>/proc/PID/stat</c> (of the main thread): R, S, T, t, Z ...; null if there is no such process.</summary>
    public char? ReadState()
    {
        try
        {
            string text = File.ReadAllText($"/proc/{ProcessId}/stat");
            return text[text.LastIndexOf(')') + 2];
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>Ends it if it runs, and waits for that.</summary>
    /// <exception cref="InvalidOperationException">It cannot be reaped: a tracer still holds it.</exception>
    public void Dispose()
    {
        if (_isDisposed)
        {
            return;
        }

        _isDisposed = true;
        CloseInput();
        bool isEnded = Exit is not null;
        if (!isEnded)
        {
            Signal(Posix.SIGKILL);
            isEnded = TryWaitForExit(TimeSpan.FromSeconds(15));
        }

        _control.Dispose();
        _output.Dispose();
        if (!isEnded)
        {
            // The runner waits for a zombie which its tracer does not release; it must not stay behind as well.
            int runner = Posix.OpenProcess(_runner);
            Posix.SendSignal(runner, Posix.SIGKILL);
            Posix.Close(runner);
        }

        Posix.WaitForChild(_runner);
        Posix.Close(_handle);
        Posix.Close(_errors);
        if (!isEnded)
        {
            throw new InvalidOperationException($"{Path} ({ProcessId}) was killed, but a tracer has not released it (state {ReadState()}).");
        }
    }

    private string ReadLineWhere(Func<string, bool> condition, string description)
    {
        while (true)
        {
            string line = ReadLine() ?? throw new EndOfStreamException($"{Path} ended without a line '{description}'.\n{Describe()}");
            if (condition(line))
            {
                return line;
            }
        }
    }

    private static long NumberAfter(string line) => long.Parse(line.AsSpan(line.LastIndexOf(' ') + 1), CultureInfo.InvariantCulture);

    private TargetExit WaitForExitOnly(TimeSpan timeout)
    {
        if (Exit is TargetExit known)
        {
            return known;
        }

        string[] words = (_control.ReadLine(timeout) ?? throw new InvalidOperationException($"The runner of {Path} ended without a report.")).Split(' ');
        int number = int.Parse(words[1], CultureInfo.InvariantCulture);
        TargetExit exit = words[0] == "exited" ? new TargetExit(number, 0) : new TargetExit(0, number);
        Exit = exit;
        return exit;
    }

    private string Describe() =>
        $"State {ReadState()?.ToString() ?? "gone"}. Last lines: {string.Join(" | ", Lines.TakeLast(8))}\n{Errors}";
}
