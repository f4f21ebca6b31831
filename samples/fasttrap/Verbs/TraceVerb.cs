using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Queries;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>Prints a line for each hit.</summary>
/// <remarks>
/// Records of queries, which tasks read, and hits of handlers, from control threads, come into one bounded queue. Records of code in the target come some milliseconds after the hit, so what comes is held for a fifth of a second, and printed in the order of
/// times. What a handler finds no room for in the queue is counted; readers of queries wait, and the target's rings count.
/// </remarks>
internal sealed class TraceVerb : Verb
{
    private const int Capacity = 1 << 17;

    private static readonly long s_patienceNs = (long)TimeSpan.FromMilliseconds(200).TotalNanoseconds;
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(20);

    private readonly Channel<TraceRecord> _queue = Channel.CreateBounded<TraceRecord>(
        new BoundedChannelOptions(Capacity) { SingleReader = true, AllowSynchronousContinuations = false });

    private readonly PriorityQueue<TraceRecord, (long TimeNs, long Number)> _held = new();

    /// <summary>Which of the descriptions shows the hits of a probe: the first by which it was hit. Several threads ask.</summary>
    private readonly ConditionalWeakTable<Probe, ProbeDescription> _shownBy = [];

    private readonly QuerySet<ProbeRecords<ulong[]>>? _records;
    private readonly IReadOnlyList<ProbeDescription> _handled;
    private readonly StringBuilder _line = new();

    /// <summary>Readers of queries, and results whose lost records are to be told; guards itself.</summary>
    private readonly List<Task> _reading = [];
    private long _lost;
    private long _number;
    private long _startNs = -1;
    private Task _printing = Task.CompletedTask;

    public TraceVerb(ToolOptions options, ResultWriter results)
        : base(options, results)
    {
        ProbeDescription[] asked = [.. options.Descriptions.Where(TraceQuery.Suits)];
        _handled = [.. options.Descriptions.Except(asked)];
        if (_handled.Count != 0 && options.NeedsCode)
        {
            throw new UsageException($"'{_handled[0]}' may mean static probes, whose arguments are read by stops: write pid*, entry or return, or leave --mechanism away.");
        }

        _records = asked.Length == 0 ? null : new QuerySet<ProbeRecords<ulong[]>>(asked, description => TraceQuery.On(description, options.Mechanism, options.ArgumentCount)) { Started = Start };
    }

    protected override QuerySet? Queries => _records;

    public override async Task<int> RunAsync(StopRequest stop)
    {
        _printing = PrintAllAsync(stop);
        int code = await base.RunAsync(stop).ConfigureAwait(false);
        return code;
    }

    protected override Task<IReadOnlyList<ProbeRequest>> RequestsAsync(TracedProcess process, CancellationToken cancellationToken)
    {
        return Task.FromResult<IReadOnlyList<ProbeRequest>>(
        [
            .. _handled.Select(description => new ProbeRequest(description, new ProbeOptions
            {
                OnHit = (in ProbeContext context) =>
                {
                    if (IsShownBy(context.Probe, description))
                    {
                        Take(context);
                    }
                },
            })),
        ]);
    }

    protected override async Task DrainAsync()
    {
        Task[] reading;
        lock (_reading)
        {
            reading = [.. _reading];
        }

        // A reader ends with its result; none begins any more.
        await Task.WhenAll(reading).ConfigureAwait(false);
        _queue.Writer.TryComplete();
        await _printing.ConfigureAwait(false);
    }

    protected override void Finish(Session session)
    {
        long lost = Interlocked.Read(ref _lost) + session.LostHits;
        if (lost > 0)
        {
            Console.Error.WriteLine($"fasttrap: {lost} hits were lost: they came faster than they could be written. Probe less, write to a file with -o, or use count.");
        }
    }

    private static long Now => (long)(Stopwatch.GetTimestamp() * (1e9 / Stopwatch.Frequency));

    private bool IsShownBy(Probe probe, ProbeDescription description) => ReferenceEquals(_shownBy.GetValue(probe, _ => description), description);

    private void Start(QueryResult<ProbeRecords<ulong[]>> query)
    {
        lock (_reading)
        {
            _reading.RemoveAll(task => task.IsCompletedSuccessfully);
            _reading.Add(Task.Run(() => ReadAsync(query)));
        }
    }

    private async Task ReadAsync(QueryResult<ProbeRecords<ulong[]>> query)
    {
        await foreach (ProbeRecord<ulong[]> record in query.Result.ReadAllAsync().ConfigureAwait(false))
        {
            if (IsShownBy(record.Probe, query.Description))
            {
                try
                {
                    await _queue.Writer.WriteAsync(TraceQuery.Read(query, record)).ConfigureAwait(false);
                }
                catch (ChannelClosedException)
                {
                    // Nobody reads our output any more.
                    return;
                }
            }
        }

        Interlocked.Add(ref _lost, query.Result.LostCount);
    }

    /// <summary>On the control thread, while the target's thread is stopped.</summary>
    private void Take(in ProbeContext context)
    {
        TraceRecord record = new()
        {
            Probe = context.Probe,
            ProcessId = context.ProcessId,
            ThreadId = context.ThreadId,
            TimeNs = context.TimestampNs,
            ProgramCounter = context.ProgramCounter,
            ReturnValue = context.Probe.Kind == ProbeKind.Return ? context.ReturnValue : 0,
        };
        if (IsDescribed(context.Probe))
        {
            TakeArguments(context, record);
        }
        else if (context.Probe.Kind == ProbeKind.Entry)
        {
            List<ulong> arguments = new(Options.ArgumentCount);
            while (arguments.Count < Options.ArgumentCount && context.TryGetArgument(arguments.Count, out ulong value))
            {
                arguments.Add(value);
            }

            record.Arguments = [.. arguments];
        }

        if (!_queue.Writer.TryWrite(record))
        {
            Interlocked.Increment(ref _lost);
        }
    }

    private static bool IsDescribed(Probe probe) => probe.Kind is not ProbeKind.Return and not ProbeKind.Entry && (probe.Kind == ProbeKind.Static || probe.Arguments.Count != 0);

    /// <summary>All arguments that a static probe declares, as far as they are wanted; texts are read while they stand.</summary>
    private void TakeArguments(in ProbeContext context, TraceRecord record)
    {
        int count = Math.Min(Options.ArgumentCount, context.Probe.Arguments.Count);
        record.Arguments = new ulong[count];
        record.Kinds = new ArgumentKind[count];
        record.Texts = new string?[count];
        for (int i = 0; i < count; i++)
        {
            bool isRead = context.TryGetArgument(i, out record.Arguments[i]);
            record.Kinds[i] = isRead ? context.GetArgumentKind(i) : ArgumentKind.Unreadable;
            record.Texts[i] = isRead ? ArgumentText.TryRead(context, i) : null;
        }
    }

    private async Task PrintAllAsync(StopRequest stop)
    {
        try
        {
            bool isLast = false;
            while (!isLast)
            {
                // Asked first: what came before the end is found by the look after it.
                isLast = _queue.Reader.Completion.IsCompleted;
                while (_queue.Reader.TryRead(out TraceRecord? record))
                {
                    _held.Enqueue(record, (record.TimeNs, _number++));
                }

                PrintUntil(isLast || _records is null ? long.MaxValue : Now - s_patienceNs);
                if (_held.Count != 0)
                {
                    await Task.Delay(s_pause).ConfigureAwait(false);
                }
                else if (!isLast)
                {
                    await _queue.Reader.WaitToReadAsync().ConfigureAwait(false);
                }
            }
        }
        catch (IOException)
        {
            // Whoever read our output has gone (as head does): end in good order, and let the drain see why.
            _queue.Writer.TryComplete();
            stop.Request();
            throw;
        }
    }

    private void PrintUntil(long timeNs)
    {
        bool any = false;
        while (_held.TryPeek(out TraceRecord? record, out (long TimeNs, long) at) && at.TimeNs <= timeNs)
        {
            any = true;
            _held.Dequeue();
            Print(record);
        }

        if (any)
        {
            Results.Flush();
        }
    }

    private void Print(TraceRecord record)
    {
        if (Options.Json)
        {
            Results.Json(record, static (json, record) =>
            {
                json.WriteString("probe", record.Probe.ToString());
                json.WriteNumber("pid", record.ProcessId);
                json.WriteNumber("tid", record.ThreadId);
                json.WriteNumber("timeNs", record.TimeNs);
                switch (record.Probe.Kind)
                {
                    case ProbeKind.Return:
                        json.WriteNumber("returnValue", record.ReturnValue);
                        break;
                    case ProbeKind.Entry:
                        json.WriteStartArray("args");
                        for (int i = 0; i < record.Arguments.Length; i++)
                        {
                            json.WriteNumberValue(record.Arguments[i]);
                        }

                        json.WriteEndArray();
                        break;
                    case var _ when record.IsDescribed:
                        WriteArguments(json, record);
                        break;
                    default:
                        json.WriteNumber("pc", record.ProgramCounter);
                        break;
                }
            });
            return;
        }

        if (_startNs < 0)
        {
            _startNs = record.TimeNs;
        }

        _line.Clear();
        _line.Append(CultureInfo.InvariantCulture, $"{(record.TimeNs - _startNs) / 1e9,12:0.000000}  ");
        if (Options.Follow)
        {
            _line.Append(CultureInfo.InvariantCulture, $"{record.ProcessId,7}  ");
        }

        _line.Append(CultureInfo.InvariantCulture, $"{record.ThreadId,7}  {record.Probe}");
        switch (record.Probe.Kind)
        {
            case ProbeKind.Return:
                _line.Append(CultureInfo.InvariantCulture, $" = 0x{record.ReturnValue:x}");
                break;
            case ProbeKind.Entry:
                _line.Append('(');
                for (int i = 0; i < record.Arguments.Length; i++)
                {
                    _line.Append(CultureInfo.InvariantCulture, $"{(i == 0 ? "" : ", ")}0x{record.Arguments[i]:x}");
                }

                _line.Append(')');
                break;
            case var _ when record.IsDescribed:
                _line.Append('(');
                for (int i = 0; i < record.Arguments.Length; i++)
                {
                    _line.Append(i == 0 ? "" : ", ");
                    ArgumentText.Append(_line, record.Arguments[i], record.Kinds![i], record.Texts![i], record.Probe.Arguments[i]);
                }

                _line.Append(')');
                break;
            default:
                _line.Append(CultureInfo.InvariantCulture, $" pc=0x{record.ProgramCounter:x}");
                break;
        }

        Results.Line(_line.ToString());
    }

    /// <summary>Numbers as numbers, texts beside them; null for what could not be read.</summary>
    private static void WriteArguments(Utf8JsonWriter json, TraceRecord record)
    {
        json.WriteStartArray("args");
        for (int i = 0; i < record.Arguments.Length; i++)
        {
            switch (record.Kinds![i])
            {
                case ArgumentKind.Unreadable:
                    json.WriteNullValue();
                    break;
                case ArgumentKind.Signed:
                    json.WriteNumberValue((long)record.Arguments[i]);
                    break;
                case ArgumentKind.Floating when double.IsFinite(BitConverter.UInt64BitsToDouble(record.Arguments[i])):
                    json.WriteNumberValue(BitConverter.UInt64BitsToDouble(record.Arguments[i]));
                    break;
                case ArgumentKind.Floating:
                    json.WriteStringValue(BitConverter.UInt64BitsToDouble(record.Arguments[i]).ToString(CultureInfo.InvariantCulture));
                    break;
                default:
                    json.WriteNumberValue(record.Arguments[i]);
                    break;
            }
        }

        json.WriteEndArray();
        json.WriteStartArray("texts");
        foreach (string? text in record.Texts!)
        {
            json.WriteStringValue(text);
        }

        json.WriteEndArray();
    }
}
