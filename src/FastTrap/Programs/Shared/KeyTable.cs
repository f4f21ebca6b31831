using System.Numerics;

namespace FastTrap.Programs.Shared;

/// <summary>Counts by key in the counters of a lane: an open table of a fixed size, in which a key, once it is there, stays where it is. Immutable: this is its layout, and what a hit does there.</summary>
/// <remarks>
/// From a key's hash on, the first pair is its own that has the key, or none yet: then it is claimed by an exchange of the key's word, after the number of keys was raised, if that is not more than allowed then. The count
/// follows by one instruction. So signal handlers, and in the common lane other threads, may come in between. The key 0 has a pair behind the table, whose first word is 1 once it is there. Readers take a key
/// for there when its count is not 0.
/// </remarks>
internal sealed class KeyTable
{
    /// <summary>Keys that are there.</summary>
    public const int UsedWord = 0;

    /// <summary>Hits whose key found no room.</summary>
    public const int OthersWord = 1;

    /// <summary>Hits without a key.</summary>
    public const int IncompleteWord = 2;

    /// <summary>Where the pairs begin.</summary>
    public const int PairsWord = 4;

    public const int PairWords = 2;

    public KeyTable(int capacity)
    {
        Capacity = capacity;
        Size = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(4, capacity * 2));
    }

    /// <summary>Keys that are kept.</summary>
    public int Capacity { get; }

    /// <summary>Pairs but that of the key 0: twice the keys at least, so that most are found where they are looked for.</summary>
    public int Size { get; }

    public int WordCount => PairsWord + ((Size + 1) * PairWords);

    /// <summary>How far a key's product with <see cref="LaneLayout.HashMultiplier"/> is shifted right.</summary>
    public int HashShift => 64 - BitOperations.Log2((uint)Size);

    /// <summary>Counts a hit in a table that nobody else writes, though others may read it.</summary>
    public void Add(Span<ulong> words, ulong key)
    {
        bool isZero = key == 0;
        ulong stored = isZero ? 1 : key;
        int at = isZero ? Size : (int)((key * LaneLayout.HashMultiplier) >> HashShift);
        for (int left = Size; left >= 0; left--)
        {
            Span<ulong> pair = words.Slice(PairsWord + (at * PairWords), PairWords);
            if (pair[0] == 0)
            {
                if (words[UsedWord] >= (ulong)Capacity)
                {
                    break;
                }

                words[UsedWord]++;
                pair[0] = stored;
            }

            if (pair[0] == stored)
            {
                Volatile.Write(ref pair[1], pair[1] + 1);
                return;
            }

            at = at + 1 >= Size ? 0 : at + 1;
        }

        Volatile.Write(ref words[OthersWord], words[OthersWord] + 1);
    }

    /// <summary>Adds what is counted now to counts by key.</summary>
    public void AddTo(Dictionary<ulong, long> counts, Span<ulong> words)
    {
        for (int i = 0; i <= Size; i++)
        {
            int at = PairsWord + (i * PairWords);
            if (Volatile.Read(ref words[at + 1]) is not 0 and ulong count)
            {
                ulong key = i == Size ? 0 : words[at];
                counts[key] = counts.GetValueOrDefault(key) + (long)count;
            }
        }
    }

    /// <summary>All hits that were counted.</summary>
    public long CountHits(Span<ulong> words)
    {
        ulong hits = Volatile.Read(ref words[OthersWord]) + Volatile.Read(ref words[IncompleteWord]);
        for (int i = 0; i <= Size; i++)
        {
            hits += Volatile.Read(ref words[PairsWord + (i * PairWords) + 1]);
        }

        return (long)hits;
    }
}
