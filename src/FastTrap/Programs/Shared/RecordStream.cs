using System.Runtime.CompilerServices;

namespace FastTrap.Programs.Shared;

/// <summary>Makes the consumer's value of a record; it keeps nothing of it.</summary>
internal delegate T RecordMaker<out T>(LaneRecord record);

/// <summary>Streams of values made of records, by readers that look again and again while there is somebody who waits for them.</summary>
internal static class RecordStream
{
    /// <summary>Values made at once, between two that are given out.</summary>
    private const int PieceLength = 256;

    /// <summary>All records, those of a lane in their order.</summary>
    /// <param name="reader">The reader, which stays the caller's.</param>
    /// <param name="make">Makes a value.</param>
    /// <param name="isOver">Whether no program runs any more, now or later: asked before a look that finds nothing, which is then the last.</param>
    /// <param name="cancellationToken">Ends the wait; values that were made and not taken are lost with their records.</param>
    public static IAsyncEnumerable<T> ReadAllAsync<T>(LaneReader reader, RecordMaker<T> make, Func<bool> isOver, CancellationToken cancellationToken = default)
    {
        return ReadAsync<T>(Fill, reader, isOver, cancellationToken);

        int Fill(Span<T> values)
        {
            int count = 0;
            while (count < values.Length && reader.TryReadOne(out LaneRecord record))
            {
                values[count++] = make(record);
            }

            return count;
        }
    }

    /// <summary>All records in the order of their times, as <see cref="MergedReader"/> gives them.</summary>
    /// <inheritdoc cref="ReadAllAsync"/>
    public static IAsyncEnumerable<T> ReadMergedAsync<T>(
        MergedReader merged, LaneReader reader, RecordMaker<T> make, Func<bool> isOver, CancellationToken cancellationToken = default)
    {
        return ReadAsync<T>(Fill, reader, isOver, cancellationToken);

        int Fill(Span<T> values)
        {
            int count = 0;
            while (count < values.Length && merged.TryRead(out LaneRecord record))
            {
                values[count++] = make(record);
            }

            return count;
        }
    }

    private delegate int Filler<T>(Span<T> values);

    private static async IAsyncEnumerable<T> ReadAsync<T>(Filler<T> fill, LaneReader reader, Func<bool> isOver, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        ReaderPause pause = new(PieceLength);
        T[] values = new T[PieceLength];
        while (true)
        {
            // Asked first: what is written before it is over is found by the look after it.
            bool isLast = isOver();
            if (isLast)
            {
                reader.ReadToEnd();
            }

            int count = fill(values);
            for (int i = 0; i < count; i++)
            {
                yield return values[i];
            }

            if (count != 0)
            {
                pause.Took(count);
                cancellationToken.ThrowIfCancellationRequested();
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

/// <summary>Puts the fields of a record where <see cref="RecordReader"/> looks for them. One thread at a time; one record after another.</summary>
internal sealed class LaneFields(RecordLayout layout)
{
    private readonly ulong[] _words = new ulong[layout.WordCount];

    /// <summary>The words of a record, until the next.</summary>
    public ulong[] Fill(LaneRecord record)
    {
        int outputs = layout.ValidityWord;
        ReadOnlySpan<ulong> fields = record.Fields;
        ReadOnlySpan<ulong> values = fields[..Math.Min(fields.Length, outputs)];
        ReadOnlySpan<ulong> rest = fields[values.Length..];
        Span<ulong> texts = _words.AsSpan(outputs + 1);
        texts.Fill(RecordLayout.NoText);
        values.CopyTo(_words);
        rest[..Math.Min(rest.Length, texts.Length)].CopyTo(texts);
        ulong all = outputs == 64 ? ulong.MaxValue : (1UL << outputs) - 1;
        _words[outputs] = record.Validity & all;

        // What code has computed from nothing is nothing, too.
        for (ulong none = ~record.Validity & all; none != 0; none &= none - 1)
        {
            _words[System.Numerics.BitOperations.TrailingZeroCount(none)] = 0;
        }

        return _words;
    }
}
