using FastTrap.Tests.TestKit;

namespace FastTrap.HitCost;

/// <summary>One way to have the hits of a function in <c>reference/trampolines.c</c>, in a process of its own: nobody's, its own, this library's, a peer's.</summary>
internal abstract class HitWay(string name) : IAsyncDisposable
{
    /// <summary>What the first rounds make, to find out how long a call takes.</summary>
    private const int FirstCalls = 500;

    /// <summary>How long a round should take at least, and how many calls it makes at most.</summary>
    private const double RoundNs = 10_000_000;

    private const int PatienceMs = 5000;

    private int _calls = FirstCalls;

    public string Name { get; } = name;

    /// <summary>What somebody would type for the same; null: nothing.</summary>
    public virtual string? CommandLine => null;

    /// <summary>Why it is not to be had here, or not for this kind; null: it is.</summary>
    public string? Refusal { get; private set; }

    /// <summary>What the program does with its own text: none, count, lane or record.</summary>
    protected virtual string Patch => "none";

    protected string Kind { get; private set; } = "";

    protected TargetProcess Target { get; private set; } = null!;

    /// <summary>The program: a copy, for the kernel's probes stand in all processes of a file.</summary>
    protected string ProgramPath { get; } = Path.Combine(Path.GetTempPath(), $"trampolines-{Environment.ProcessId}-{Guid.NewGuid():N}");

    /// <summary>Starts the program and begins to probe it; false if this way is not to be had here, or not for this kind: <see cref="Refusal"/> says why.</summary>
    public async Task<bool> StartAsync(string kind, int mostCalls)
    {
        Kind = kind;
        if (Missing() is { } reason)
        {
            return Refuse(reason);
        }

        File.Copy(BuildProgram(), ProgramPath);
        Target = StartProgram();
        if (!await AttachAsync().ConfigureAwait(false))
        {
            return false;
        }

        double ns = Math.Max(Round(1), 0.1);
        _calls = (int)Math.Clamp(RoundNs / ns, FirstCalls, mostCalls);
        return true;
    }

    /// <summary>Nanoseconds of a call in one round.</summary>
    public double Round(int threads)
    {
        long before = CountHits();
        Target.SendLine($"{Called} {Patch} {_calls} {threads}");
        string line;
        try
        {
            line = Target.ReadLineContaining("ns per call");
        }
        catch (TimeoutException exception)
        {
            throw new TimeoutException($"{Name}, {Kind}: no end of {_calls} calls by {threads} threads.", exception);
        }

        long expected = before + (_calls * (long)threads);
        long end = Environment.TickCount64 + PatienceMs;
        while (CountsHits && CountHits() != expected)
        {
            // Records count when they were read.
            if (Environment.TickCount64 > end)
            {
                throw new InvalidOperationException($"{Name}, {Kind}: {_calls * (long)threads} calls gave {CountHits() - before} hits.");
            }

            Thread.Yield();
        }

        Settle();
        return double.Parse(line.AsSpan(0, line.IndexOf(' ', StringComparison.Ordinal)), System.Globalization.CultureInfo.InvariantCulture);
    }

    /// <summary>After the rounds: whether it has seen them, where that is not checked in each.</summary>
    /// <exception cref="InvalidOperationException">It has not.</exception>
    public virtual void Verify()
    {
    }

    public virtual async ValueTask DisposeAsync()
    {
        await Task.Yield();
        Target?.Dispose();
        File.Delete(ProgramPath);
    }

    protected abstract Task<bool> AttachAsync();

    /// <summary>What must be there before the program is started: the reason if it is not.</summary>
    protected virtual string? Missing() => null;

    /// <summary>The kind that is called.</summary>
    protected virtual string Called => Kind;

    protected virtual string BuildProgram() => TargetBuilder.Build("trampolines");

    protected virtual TargetProcess StartProgram()
    {
        TargetProcess target = TargetProcess.Start(ProgramPath, ["serve"]);
        target.WaitReady();
        return target;
    }

    /// <summary>Says why; false.</summary>
    protected bool Refuse(string reason)
    {
        Refusal = reason;
        return false;
    }

    /// <summary>Waits after a round until its tool has nothing left to do.</summary>
    protected virtual void Settle()
    {
    }

    /// <summary>Whether hits can be counted, for a check.</summary>
    protected virtual bool CountsHits => false;

    protected virtual long CountHits() => 0;
}

/// <summary>The program alone, or with trampolines written by hand.</summary>
internal sealed class ReferenceWay(string name, string patch, string? called = null) : HitWay(name)
{
    public override string? CommandLine => patch == "none" ? null : $"trampolines serve: FUNCTION {patch} CALLS THREADS";

    protected override string Patch => patch;

    protected override string Called => called ?? Kind;

    protected override Task<bool> AttachAsync() => Task.FromResult(Kind != "trap" || patch == "none");
}

/// <summary>This library by its queries; it picks the mechanism.</summary>
internal sealed class LibraryWay(string name, bool isRecord) : HitWay(name)
{
    private readonly Tracer _tracer = new();
    private ProbeResult? _result;
    private ProbeRecords<ulong>? _records;
    private Task? _reader;
    private long _sum;

    public override string CommandLine => isRecord
        ? "process.On(\"PROGRAM:FUNCTION:entry\").Record(c => c.Arg(0)).EnableAsync(), and a reader"
        : "process.On(\"PROGRAM:FUNCTION:entry\").Count().EnableAsync()";

    /// <summary>By which mechanism it stands.</summary>
    public ProbeMechanisms Mechanisms => _result?.Mechanisms ?? ProbeMechanisms.None;

    protected override string? Missing() => Kind == "trap" ? "not probed" : null;

    protected override async Task<bool> AttachAsync()
    {
        TracedProcess process = await _tracer.AttachAsync(Target.ProcessId).ConfigureAwait(false);
        ProbeQuery query = process.On(Kind switch
        {
            "usdt" => "trampolines*:::hit",
            "ret" => "a.out:hot_ret:return",
            _ => $"a.out:hot_{Kind}:entry",
        });
        if (!isRecord)
        {
            _result = await query.Count().EnableAsync().ConfigureAwait(false);
            return true;
        }

        _result = _records = Kind == "ret"
            ? await query.Record(c => c.ReturnValue, 1 << 17).EnableAsync().ConfigureAwait(false)
            : Kind == "usdt"
                ? await query.Record(c => (ulong)c.ThreadId, 1 << 17).EnableAsync().ConfigureAwait(false)
                : await query.Record(c => c.Arg(0), 1 << 17).EnableAsync().ConfigureAwait(false);
        _reader = Task.Run(async () =>
        {
            await foreach (ProbeRecord<ulong> record in _records.ReadAllAsync().ConfigureAwait(false))
            {
                _sum += (long)record.Value;
            }
        });
        return true;
    }

    protected override bool CountsHits => _result is not null;

    protected override long CountHits() => _result?.Count ?? 0;

    public override async ValueTask DisposeAsync()
    {
        if (_result is not null)
        {
            await _result.DisposeAsync().ConfigureAwait(false);
        }

        if (_reader is not null)
        {
            await _reader.ConfigureAwait(false);
            Console.Error.WriteLine($"{Name}, {Kind}: {_result!.Count} records, {_records!.LostCount} lost");
        }

        await _tracer.DisposeAsync().ConfigureAwait(false);
        await base.DisposeAsync().ConfigureAwait(false);
    }
}
