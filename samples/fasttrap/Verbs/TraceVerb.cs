using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using FastTrap.Tool.CommandLine;
using FastTrap.Tool.Output;
using FastTrap.Tool.Running;

namespace FastTrap.Tool.Verbs;

/// <summary>Prints a line for each hit.</summary>
/// <remarks>
/// All enablings put into one bounded queue from the control thread, so that lines of several descriptions keep their order;
/// <see cref="ProbeEnabling.ReadAllAsync"/> is the simpler way when there is one description. What the queue has no room for is counted.
/// </remarks>
internal sealed class TraceVerb(ToolOptions options, ResultWriter results) : Verb(options, results)
{
    private const int Capacity = 1 << 17;

    private readonly Channel<TraceRecord> _queue = Channel.CreateBounded<TraceRecord>(
        new BoundedChannelOptions(Capacity) { SingleReader = true, AllowSynchronousContinuations = false });

    /// <summary>Which of the descriptions shows the hits of a probe: the first by which it was hit. Several control threads ask.</summary>
    private readonly ConditionalWeakTable<Probe, ProbeDescription> _shownBy = [];

    private readonly StringBuilder _line = new();
    private long _lost;
    private long _startNs = -1;
    private Task _printing = Task.CompletedTask;

    public override async Task<int> RunAsync(StopRequest stop)
    {
        _printing = PrintAllAsync(stop);
        int code = await base.RunAsync(stop).ConfigureAwait(false);
        return code;
    }

    protected override IReadOnlyList<ProbeRequest> Requests(TracedProcess process)
    {
        return
        [
            .. Options.Descriptions.Select(description => new ProbeRequest(description, new ProbeOptions
            {
                OnHit = (in ProbeContext context) =>
                {
                    if (ReferenceEquals(_shownBy.GetValue(context.Probe, _ => description), description))
                    {
                        Take(context);
                    }
                },
            })),
        ];
    }

    protected override void Finish(Session session)
    {
        _queue.Writer.Complete();
        _printing.GetAwaiter().GetResult();
        long lost = Interlocked.Read(ref _lost) + session.LostHits;
        if (lost > 0)
        {
            Console.Error.WriteLine($"fasttrap: {lost} hits were lost: they came faster than they could be written. Probe less, write to a file with -o, or use count.");
        }
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
        };
        if (context.Probe.Kind == ProbeKind.Return)
        {
            record.ReturnValue = context.ReturnValue;
        }
        else if (IsDescribed(context.Probe))
        {
            TakeArguments(context, ref record);
        }
        else if (context.Probe.Kind == ProbeKind.Entry)
        {
            while (record.ArgumentCount < Options.ArgumentCount && context.TryGetArgument(record.ArgumentCount, out ulong value))
            {
                record.Arguments[record.ArgumentCount++] = value;
            }
        }

        if (!_queue.Writer.TryWrite(record))
        {
            Interlocked.Increment(ref _lost);
        }
    }

    /// <summary>Whether the program's author says what the arguments are: USDT and DOF.</summary>
    private static bool IsDescribed(Probe probe) => probe.Kind == ProbeKind.Static || probe.Arguments.Count != 0;

    /// <summary>All arguments that a static probe declares, as far as they are wanted; texts are read while they stand.</summary>
    private void TakeArguments(in ProbeContext context, ref TraceRecord record)
    {
        record.ArgumentCount = Math.Min(Options.ArgumentCount, context.Probe.Arguments.Count);
        record.Kinds = new ArgumentKind[record.ArgumentCount];
        record.Texts = new string?[record.ArgumentCount];
        for (int i = 0; i < record.ArgumentCount; i++)
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
            while (await _queue.Reader.WaitToReadAsync().ConfigureAwait(false))
            {
                while (_queue.Reader.TryRead(out TraceRecord record))
                {
                    Print(record);
                }

                Results.Flush();
            }
        }
        catch (IOException)
        {
            // Whoever read our output has gone (as head does): end in good order, and let Finish see why.
            stop.Request();
            throw;
        }
    }

    private void Print(in TraceRecord record)
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
                        for (int i = 0; i < record.ArgumentCount; i++)
                        {
                            json.WriteNumberValue(record.Arguments[i]);
                        }

                        json.WriteEndArray();
                        break;
                    case var _ when IsDescribed(record.Probe):
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
                for (int i = 0; i < record.ArgumentCount; i++)
                {
                    _line.Append(CultureInfo.InvariantCulture, $"{(i == 0 ? "" : ", ")}0x{record.Arguments[i]:x}");
                }

                _line.Append(')');
                break;
            case var _ when IsDescribed(record.Probe):
                _line.Append('(');
                for (int i = 0; i < record.ArgumentCount; i++)
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
    private static void WriteArguments(Utf8JsonWriter json, in TraceRecord record)
    {
        json.WriteStartArray("args");
        for (int i = 0; i < record.ArgumentCount; i++)
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
