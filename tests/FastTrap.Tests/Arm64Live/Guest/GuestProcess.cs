using System.Globalization;
using System.Text;
using FastTrap.Tests.TestKit;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>A target in the guest with its streams, always ended when disposed. As on this machine its parent is the runner, for the same reason.</summary>
/// <remarks>One thread at a time; it has a channel of its own.</remarks>
internal sealed class GuestProcess : IDisposable
{
    private const int SYS_close = 57;
    private const int SYS_read = 63;
    private const int SYS_write = 64;
    private const int SYS_kill = 129;
    private const int SIGKILL = 9;
    private const int Room = 64 * 1024;
    private const int PollMilliseconds = 500;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    private readonly GuestMachine _machine;
    private readonly GuestChannel _channel;
    private readonly int[] _descriptors;
    private readonly Stream _control;
    private readonly Stream _output;
    private readonly List<string> _lines = [];
    private bool _isDisposed;

    private GuestProcess(GuestMachine machine, GuestChannel channel, int[] descriptors)
    {
        _machine = machine;
        _channel = channel;
        _descriptors = descriptors;
        _output = new Stream(this, descriptors[1]);
        _control = new Stream(this, descriptors[3]);
    }

    /// <summary>Its id in the guest.</summary>
    public int ProcessId { get; private set; }

    /// <summary>Every line that was read from its standard output.</summary>
    public IReadOnlyList<string> Lines => _lines;

    /// <summary>How it ended; null while it runs or nobody looked.</summary>
    public TargetExit? Exit { get; private set; }

    /// <summary>Starts a target of the image and waits for its ready line.</summary>
    public static GuestProcess Start(GuestMachine machine, string name, params string[] arguments)
    {
        GuestChannel channel = machine.Link.Open();
        long runner = GuestPlatform.StartWithPipes(channel, "/t/runner", ["runner", "--", $"/t/{name}", .. arguments], out int[] descriptors);
        Assert.That(runner, Is.Positive, $"the runner of {name} in the guest");
        GuestProcess process = new(machine, channel, descriptors);
        try
        {
            string report = process._control.ReadLine() ?? "nothing";
            Assert.That(report, Does.StartWith("pid "), $"{name} in the guest");
            process.ProcessId = int.Parse(report.AsSpan(4), CultureInfo.InvariantCulture);
            process.ReadLineStarting($"ready {process.ProcessId}");
            return process;
        }
        catch
        {
            process.Dispose();
            throw;
        }
    }

    public void SendLine(string line)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(line + "\n");
        long written = _channel.Begin().Write(0, bytes).Call(SYS_write, (ulong)_descriptors[0], _channel.Address(0), (ulong)bytes.Length).Exchange().TakeResult();
        Assert.That(written, Is.EqualTo(bytes.Length), $"'{line}' to a target in the guest; it said {string.Join(" | ", _lines.TakeLast(5))}");
    }

    /// <summary>The next line of its standard output, null at the end.</summary>
    public string? ReadLine()
    {
        string? line = _output.ReadLine();
        if (line is not null)
        {
            _lines.Add(line);
        }

        return line;
    }

    /// <summary>Reads on until a line that begins so.</summary>
    public string ReadLineStarting(string prefix)
    {
        while (true)
        {
            string line = ReadLine() ?? throw new EndOfStreamException($"The target ended without a line '{prefix}'; it said {string.Join(" | ", _lines.TakeLast(8))}\n{_machine.Console}");
            if (line.StartsWith(prefix, StringComparison.Ordinal))
            {
                return line;
            }
        }
    }

    /// <summary>Reads on until the line <c>count NAME N</c> and gives the number.</summary>
    public long ReadCount(string name)
    {
        string line = ReadLineStarting($"count {name} ");
        return long.Parse(line.AsSpan(line.LastIndexOf(' ') + 1), CultureInfo.InvariantCulture);
    }

    /// <summary>The number of a line <c>count NAME N</c> that was read already.</summary>
    public long GetCount(string name)
    {
        string line = _lines.Last(l => l.StartsWith($"count {name} ", StringComparison.Ordinal));
        return long.Parse(line.AsSpan(line.LastIndexOf(' ') + 1), CultureInfo.InvariantCulture);
    }

    /// <summary>Reads all output to the end, and waits for the exit.</summary>
    public TargetExit WaitForExit()
    {
        while (ReadLine() is not null)
        {
            // Every line is kept.
        }

        string[] words = (_control.ReadLine() ?? throw new EndOfStreamException("The runner ended without a report.")).Split(' ');
        int number = int.Parse(words[1], CultureInfo.InvariantCulture);
        Exit = words[0] == "exited" ? new TargetExit(number, 0) : new TargetExit(0, number);
        return Exit.Value;
    }

    public void Signal(int signal) => _channel.Begin().Call(SYS_kill, (ulong)ProcessId, (ulong)signal).Exchange();

    /// <summary>A file of /proc as text; empty if there is none.</summary>
    public string ReadProc(string file) => Encoding.UTF8.GetString(_machine.Platform.ReadProcFile($"/proc/{ProcessId}/{file}", out _) ?? []);

    public void Dispose()
    {
        if (_isDisposed)
        {
            return;
        }

        _isDisposed = true;
        if (Exit is null && ProcessId != 0)
        {
            Signal(SIGKILL);
        }

        foreach (int descriptor in _descriptors)
        {
            _channel.Begin().Call(SYS_close, (ulong)descriptor).Exchange();
        }

        _machine.Link.Close(_channel.Id);
    }

    /// <summary>The lines of one descriptor.</summary>
    private sealed class Stream(GuestProcess owner, int descriptor)
    {
        private readonly Queue<string> _ready = new();
        private readonly List<byte> _pending = [];
        private bool _isAtEnd;

        public string? ReadLine()
        {
            long end = Environment.TickCount64 + (long)s_patience.TotalMilliseconds;
            string? line;
            while (!_ready.TryDequeue(out line))
            {
                if (_isAtEnd)
                {
                    return null;
                }

                if (Environment.TickCount64 > end)
                {
                    throw new TimeoutException($"The target in the guest says nothing. It said {string.Join(" | ", owner._lines.TakeLast(8))}; {owner.ReadProc("status")}");
                }

                if (GuestPlatform.IsReadable(descriptor, owner._channel, PollMilliseconds))
                {
                    Fill();
                }
            }

            return line;
        }

        private void Fill()
        {
            GuestChannel channel = owner._channel;
            long length = channel.Begin().Call(SYS_read, (ulong)descriptor, channel.Address(0), Room).ReadResult(0, 0).Exchange().TakeResult();
            _isAtEnd = length <= 0;
            foreach (byte b in channel.Take((int)Math.Max(length, 0)))
            {
                if (b != '\n')
                {
                    _pending.Add(b);
                    continue;
                }

                _ready.Enqueue(Encoding.UTF8.GetString([.. _pending]));
                _pending.Clear();
            }
        }
    }
}
