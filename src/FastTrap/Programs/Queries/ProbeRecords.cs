using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FastTrap.Probes;
using FastTrap.Programs;
using FastTrap.Programs.Compilation;
using FastTrap.Programs.Shared;

namespace FastTrap;

/// <summary>One record of a hit.</summary>
/// <param name="Value">What the query selects.</param>
/// <param name="Probe">The probe that was hit.</param>
/// <param name="ThreadId">The kernel's id of the thread.</param>
/// <param name="TimestampNs">When the tracer saw it: nanoseconds of CLOCK_MONOTONIC.</param>
/// <param name="IsComplete">Whether all fields could be had; those that could not are 0, false or null.</param>
public readonly record struct ProbeRecord<T>(T Value, Probe Probe, int ThreadId, long TimestampNs, bool IsComplete);

/// <summary>A stream of typed records. It has one reader at a time.</summary>
public sealed class ProbeRecords<T> : ProbeResult
{
    /// <summary>Bytes of a thread's ring, at least and at most.</summary>
    private const ulong LeastRing = 16 * 1024;
    private const ulong MostRing = 1024 * 1024;

    /// <summary>With texts or stacks, of which few would find room otherwise.</summary>
    private const ulong MostRingOfTexts = 4 * MostRing;

    /// <summary>A ring that is filled so far between two looks is looked at more often.</summary>
    private const int PartOfRing = 16;

    private readonly RecordLayout _layout;
    private readonly Func<RecordReader, T> _make;
    private readonly HitRing _ring;

    internal ProbeRecords(ProbeProgram program, IReadOnlyList<(int AddressOutput, int MaximumLength)> texts, Func<RecordReader, T> make, int capacity)
        : base(program, ProgramAction.RecordWith(texts))
    {
        _layout = new RecordLayout(program.Outputs.Length, texts);
        _make = make;
        if ((long)capacity * _layout.WordCount > ProbeEnabling.MaximumStackFrames)
        {
            throw new ArgumentException(
                $"{capacity} records of {_layout.WordCount * 8} bytes are too many; {ProbeEnabling.MaximumStackFrames / _layout.WordCount} of these is the most. Ask for a smaller capacity, or for shorter strings.",
                nameof(capacity));
        }

        _ring = new HitRing(capacity, _layout.WordCount);
        RingLength = (int)Math.Clamp(
            BitOperations.RoundUpToPowerOf2((ulong)(capacity * (long)LaneLayout.RecordLength(_layout.WordCount - 1, hasValidity: true))), LeastRing, texts.Count == 0 ? MostRing : MostRingOfTexts);
    }

    /// <summary>Records that were dropped because nobody read in time; they are in <see cref="ProbeResult.Count"/>.</summary>
    public long LostCount => _ring.Lost + (Code?.Drops ?? 0);

    /// <inheritdoc/>
    internal override bool IsBeingRead => Code?.IsReading == true;

    /// <inheritdoc/>
    private protected override int RingLength { get; }

    /// <summary>
    /// Reads records until the result is disposed or the process ends: those of each mechanism in the order of their times, of which those by Jump are seen some milliseconds later.
    /// </summary>
    /// <exception cref="InvalidOperationException">Another reader is active.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; unread records stay.</exception>
    public async IAsyncEnumerable<ProbeRecord<T>> ReadAllAsync([EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        RecordReader reader = new(_layout);
        if (Code?.BeginReading() is not { } lanes)
        {
            await foreach (ProbeHit hit in HitRing.ReadAllAsync(_ring, cancellationToken).ConfigureAwait(false))
            {
                reader.Open(hit.StackWords!);
                yield return new ProbeRecord<T>(_make(reader), hit.Probe, hit.ThreadId, hit.TimestampNs, reader.IsComplete);
            }

            yield break;
        }

        using (lanes)
        {
            LaneFields fields = new(_layout);
            ReaderPause pause = new(Math.Max(1, RingLength / LaneLayout.RecordLength(_layout.WordCount - 1, hasValidity: true) / PartOfRing));
            while (true)
            {
                // Asked first: what came before the end is found by the look after it.
                bool isLast = _ring.IsComplete;
                if (isLast)
                {
                    lanes.ReadToEnd();
                }

                int taken = 0;
                while (_ring.TryTake(out ProbeHit hit))
                {
                    taken++;
                    reader.Open(hit.StackWords!);
                    yield return new ProbeRecord<T>(_make(reader), hit.Probe, hit.ThreadId, hit.TimestampNs, reader.IsComplete);
                }

                while (TryReadLane(lanes, fields, reader, out ProbeRecord<T> record))
                {
                    taken++;
                    yield return record;
                }

                cancellationToken.ThrowIfCancellationRequested();
                if (taken != 0)
                {
                    pause.Took(taken);
                }
                else if (isLast)
                {
                    yield break;
                }
                else
                {
                    await pause.WaitAsync(cancellationToken).ConfigureAwait(false);
                }
            }
        }
    }

    private bool TryReadLane(QueryReader lanes, LaneFields fields, RecordReader reader, out ProbeRecord<T> made)
    {
        if (!lanes.TryRead(out LaneRecord record, out Probe? probe, out long timestampNs))
        {
            made = default;
            return false;
        }

        reader.Open(fields.Fill(record));
        bool isComplete = reader.IsComplete;
        lanes.CountRead(isComplete);
        made = new ProbeRecord<T>(_make(reader), probe, record.ThreadId, timestampNs, isComplete);
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        await base.DisposeAsync().ConfigureAwait(false);
        _ring.Complete();
    }

    internal override void Add(ProbeEnabling enabling)
    {
        base.Add(enabling);

        // The stream ends with the process, too.
        _ = enabling.Completion.ContinueWith(_ => _ring.Complete(), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
    }

    private protected override void Take(in ProbeContext context, ReadOnlySpan<ulong> values, ReadOnlySpan<bool> valid, bool isComplete)
    {
        ref HitRecord record = ref _ring.TryBegin(out long position, out Span<ulong> words, out _);
        if (Unsafe.IsNullRef(ref record))
        {
            return;
        }

        context.Describe(ref record);
        record.Unreadable = 0;
        record.StackCount = words.Length;
        words[_layout.ValidityWord] = 0;
        ReadOnlySpan<int> outputs = Program.Outputs;
        for (int i = 0; i < outputs.Length; i++)
        {
            words[i] = values[outputs[i]];
            words[_layout.ValidityWord] |= valid[outputs[i]] ? 1UL << i : 0;
        }

        int at = _layout.ValidityWord + 1;
        foreach ((int addressOutput, int maximumLength) in _layout.Texts)
        {
            int count = (maximumLength + sizeof(ulong) - 1) / sizeof(ulong);
            if (addressOutput == RecordLayout.IsStack)
            {
                words[at] = (ulong)context.GetUserStack(words.Slice(at + 1, count));
                at += 1 + count;
                continue;
            }

            Span<byte> bytes = MemoryMarshal.AsBytes(words.Slice(at + 1, count))[..maximumLength];
            int read = valid[outputs[addressOutput]] ? context.Read(words[addressOutput], bytes) : 0;
            int end = bytes[..read].IndexOf((byte)0);
            words[at] = read == 0 ? RecordLayout.NoText : (ulong)(end < 0 ? read : end);
            at += 1 + count;
        }

        _ring.End(position);
    }
}
