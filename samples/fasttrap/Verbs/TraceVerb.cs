using System.Collections.Concurrent;
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
/// Records of queries, which tasks read, come into one bounded queue. Those of code in the target come some milliseconds after the hit, so what comes is held for a fifth of a second, and printed in the order of times. Where the queue
/// has no room the readers wait, and the rings before them drop and count.
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

    private readonly QuerySet<ProbeRecords<TraceValues>> _records;
    private readonly RecordReaders<TraceValues> _readers;

    /// <summary>What is recorded of the probes of a description, which the queries are on.</summary>
    private readonly ConcurrentDictionary<ProbeDescription, TracePart> _parts = new();
    private readonly Dictionary<TracedProcess, IReadOnlyList<ProbeDescription>> _wanted = [];
    private readonly StringBuilder _line = new();
    private long _number;
    private long _startNs = -1;
    private Task _printing = Task.CompletedTask;

    public TraceVerb(ToolOptions options, ResultWriter results)
        : base(options, results)
    {
        _readers = new RecordReaders<TraceValues>(TakeAsync);
        _records = new QuerySet<ProbeRecords<TraceValues>>(options.Descriptions, description => TraceQuery.On(PartOf(description), options.Mechanism, options.ArgumentCount))
        {
            Expand = process => _wanted[process],
            IsOneChange = true,
            Started = _readers.Start,
        };
    }

    protected override QuerySet Queries => _records;

    public override async Task<int> RunAsync(StopRequest stop)
    {
        _printing = PrintAllAsync(stop);
        int code = await base.RunAsync(stop).ConfigureAwait(false);
        return code;
    }

    /// <summary>No handlers: finds out what the descriptions mean in the process. With <c>--follow</c> that is not known, and this is not asked.</summary>
    protected override async Task<IReadOnlyList<ProbeRequest>> RequestsAsync(TracedProcess process, CancellationToken cancellationToken)
    {
        List<ProbeDescription> wanted = [];
        foreach (ProbeDescription description in Options.Descriptions)
        {
            foreach (TracePart part in await TracePart.FindAsync(process, description, cancellationToken).ConfigureAwait(false))
            {
                _parts[part.Description] = part;
                wanted.Add(part.Description);
            }
        }

        _wanted[process] = wanted;
        return [];
    }

    protected override async Task DrainAsync()
    {
        await _readers.DrainAsync().ConfigureAwait(false);
        _queue.Writer.TryComplete();
        await _printing.ConfigureAwait(false);
    }

    protected override void Finish(Session session)
    {
        long lost = _readers.Lost;
        if (lost > 0)
        {
            Console.Error.WriteLine($"fasttrap: {lost} hits were lost: they came faster than they could be written. Probe less, write to a file with -o, or use count.");
        }
    }

    private static long Now => (long)(Stopwatch.GetTimestamp() * (1e9 / Stopwatch.Frequency));

    private bool IsShownBy(Probe probe, ProbeDescription description) => ReferenceEquals(_shownBy.GetValue(probe, _ => description), description);

    private TracePart PartOf(ProbeDescription description) =>
        _parts.GetOrAdd(description, static d => TraceQuery.IsOfFunctions(d) ? TracePart.OfFunctions(d) : TracePart.OfAll(d));

    private async ValueTask<bool> TakeAsync(QueryResult<ProbeRecords<TraceValues>> query, ProbeRecord<TraceValues> record)
    {
        if (IsShownBy(record.Probe, query.Description))
        {
            try
            {
                await _queue.Writer.WriteAsync(TraceQuery.Read(query, PartOf(query.Description), record)).ConfigureAwait(false);
            }
            catch (ChannelClosedException)
            {
                // Nobody reads our output any more.
                return false;
            }
        }

        return true;
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

                PrintUntil(isLast ? long.MaxValue : Now - s_patienceNs);
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
