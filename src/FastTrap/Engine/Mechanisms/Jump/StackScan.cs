using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>
/// Looks on a thread's stack for words that point strictly inside a window: each may be the program counter that a signal frame will give back to the thread.
/// </summary>
/// <remarks>
/// Conservative: any such word counts. Read from the stack pointer upwards, to where memory ends or <see cref="MaximumDepth"/>, and in the same way each further stack on which a signal frame found on this one says that the thread was.
/// Memory of ours may lie right behind a stack, and holds such addresses: there a stack has ended.
/// </remarks>
/// <param name="platform">The kernel.</param>
/// <param name="ours">Memory of ours in the target.</param>
internal sealed class StackScan(IPlatform platform, Func<IEnumerable<(ulong Start, ulong Length)>> ours)
{
    /// <summary>Bytes that a signal handler, with all it calls, is taken to have on the stack at most.</summary>
    public const int MaximumDepth = 1 << 20;

    private const int MaximumStacks = 8;

    /// <summary>From the saved program counter of a signal frame to the word with the segment selectors; the stack pointer stands in front of it.</summary>
    private const int SelectorWords = 2;
    private const ulong UserCodeSelector = 0x33;
    private const ulong UserStackSelector = 0x2b;

    private readonly byte[] _buffer = new byte[64 * 1024];
    private readonly List<(ulong Start, ulong End)> _seen = [];
    private readonly List<(ulong Start, ulong Length)> _ours = [];
    private Action<ulong>? _frame;

    /// <summary>Reports each word of a thread's stack which lies between two addresses.</summary>
    public void Scan(int threadId, ulong stackPointer, ulong lowest, ulong highest, Action<ulong> found)
    {
        _seen.Clear();
        _ours.Clear();
        _ours.AddRange(ours());
        Queue<ulong> stacks = new([stackPointer & ~7UL]);
        while (stacks.TryDequeue(out ulong start) && _seen.Count < MaximumStacks)
        {
            if (!_seen.Exists(s => start - s.Start < s.End - s.Start))
            {
                _seen.Add((start, start + (ulong)ScanOne(threadId, start, lowest, highest, found, stacks)));
            }
        }
    }

    /// <summary>Reports the saved program counter of what looks like a signal frame on a thread's stack.</summary>
    public void ScanFrames(int threadId, ulong stackPointer, Action<ulong> frame)
    {
        _frame = frame;
        Scan(threadId, stackPointer, 1, 0, static _ => { });
        _frame = null;
    }

    /// <summary>The next word that may be of interest: a thread stands while its stack is looked at.</summary>
    private static int NextOf(ReadOnlySpan<ulong> words, int from, ulong lowest, ulong highest)
    {
        bool isSought = lowest <= highest;
        Vector256<ulong> low = Vector256.Create(lowest);
        Vector256<ulong> range = Vector256.Create(highest - lowest);
        Vector256<ulong> selector = Vector256.Create(UserCodeSelector);
        Vector256<ulong> selectors = Vector256.Create(UserCodeSelector | (UserStackSelector << 48));
        int i = from;
        for (; i <= words.Length - Vector256<ulong>.Count; i += Vector256<ulong>.Count)
        {
            Vector256<ulong> four = Vector256.Create(words[i..]);
            Vector256<ulong> hits = Vector256.Equals(four, selector) | Vector256.Equals(four, selectors);
            if (isSought)
            {
                hits |= Vector256.LessThanOrEqual(four - low, range);
            }

            if (hits != Vector256<ulong>.Zero)
            {
                break;
            }
        }

        while (i < words.Length && !(isSought && words[i] - lowest <= highest - lowest) && words[i] is not (UserCodeSelector or (UserCodeSelector | (UserStackSelector << 48))))
        {
            i++;
        }

        return i;
    }

    private int ScanOne(int threadId, ulong start, ulong lowest, ulong highest, Action<ulong> found, Queue<ulong> stacks)
    {
        int done = 0;
        int depth = FindDepth(start);
        while (done < depth)
        {
            // What is read next begins a little before the end of what was read, for a frame may lie across.
            int read = platform.ReadMemory(threadId, start + (ulong)done, _buffer.AsSpan(0, Math.Min(_buffer.Length, depth - done)));
            if (read < sizeof(ulong))
            {
                break;
            }

            ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(_buffer.AsSpan(0, read & -sizeof(ulong)));
            for (int i = NextOf(words, 0, lowest, highest); i < words.Length; i = NextOf(words, i + 1, lowest, highest))
            {
                ulong word = words[i];
                if (lowest <= highest && word - lowest <= highest - lowest)
                {
                    found(word);
                }

                if (word is UserCodeSelector or (UserCodeSelector | (UserStackSelector << 48)) && i > SelectorWords)
                {
                    _frame?.Invoke(words[i - SelectorWords]);
                    stacks.Enqueue(words[i - SelectorWords - 1] & ~7UL);
                }
            }

            if (read < _buffer.Length)
            {
                done += read;
                break;
            }

            done += read - 64;
        }

        return done;
    }

    /// <summary>How far up a stack is read at most.</summary>
    private int FindDepth(ulong start)
    {
        ulong depth = MaximumDepth;
        foreach ((ulong first, ulong length) in _ours)
        {
            depth = start - first < length ? 0 : Math.Min(depth, unchecked(first - start));
        }

        return (int)depth;
    }
}
