namespace FastTrap.Programs.Shared;

/// <summary>The calls that a thread is in and how long those took that are over, in the counters of a lane. Immutable: this is its layout, and what an entry and a return do there.</summary>
/// <remarks>
/// <para>
/// A call is its function and its stack pointer at the entry, by which a return, or a jump out of the function, finds the latest one; what stands above it was left without a return and is forgotten with it. Every entry is
/// put there, those that do not count with the time 0: so a return finds its own entry or none, never an older one that was left at the same place. Nothing is concluded from the order of addresses, so that a signal handler on
/// another stack disturbs nothing. An entry forgets calls at the top that are below its own place, or at it, by less than <see cref="Reach"/>: they were left by an exception or a <c>longjmp</c>. (On another stack which lies as near they may be
/// alive; then they are not timed.) When there is no room, all calls are forgotten, which is counted: not some of them, or the return of one
/// might find an older one below.
/// </para>
/// <para>
/// The state is the words in use (the upper half) and a number that every change raises: an entry writes what it puts there above what is in use and then exchanges the state; if a signal's handler came in between, it does so once more.
/// </para>
/// </remarks>
internal sealed class CallStack(int depth)
{
    public const int StateWord = 0;

    /// <summary>Calls that were forgotten for want of room, or found no lane.</summary>
    public const int LostWord = 1;

    /// <summary>Entries that count.</summary>
    public const int EntriesWord = 2;

    /// <summary>The sum of times, in ticks.</summary>
    public const int TotalWord = 3;

    /// <summary>The least time in ticks, encoded as that of a sum.</summary>
    public const int LeastWord = 4;

    public const int GreatestWord = 5;

    /// <summary>How many times in nanoseconds fell between two powers of two.</summary>
    public const int StepsWord = 6;

    public const int StepCount = 65;

    /// <summary>Where the calls begin: for each the stack pointer, the function, and the time in ticks.</summary>
    public const int CallsWord = StepsWord + StepCount;

    public const int CallWords = 3;

    public const int StandardDepth = 4096;

    /// <summary>Bytes: so far below an entry, calls are taken for left.</summary>
    public const ulong Reach = 0x1_0000;

    private const int UseShift = 32;

    /// <summary>Words of all calls there is room for.</summary>
    public int Limit { get; } = depth * CallWords;

    public int WordCount => CallsWord + Limit;

    /// <summary>Words in use.</summary>
    public static int UseOf(ulong state) => (int)(state >> UseShift);

    /// <summary>An entry. Gives how many calls were forgotten for want of room.</summary>
    public static int Push(ref ulong state, Span<ulong> calls, ulong stackPointer, ulong function, ulong ticks)
    {
        int use = Math.Min(UseOf(state), calls.Length);
        while (use >= CallWords && stackPointer - calls[use - CallWords] < Reach)
        {
            use -= CallWords;
        }

        int lost = 0;
        if (use > calls.Length - CallWords)
        {
            lost = use / CallWords;
            use = 0;
        }

        (calls[use], calls[use + 1], calls[use + 2]) = (stackPointer, function, ticks);
        Replace(ref state, use + CallWords);
        return lost;
    }

    /// <summary>A return. Gives the time of its entry; false if that is not known.</summary>
    /// <param name="state">The state.</param>
    /// <param name="calls">The calls.</param>
    /// <param name="stackPointer">The stack pointer, before or behind the instruction.</param>
    /// <param name="popped">Bytes that the instruction may have taken from the stack.</param>
    /// <param name="function">The function.</param>
    /// <param name="ticks">The time; 0 of a call that does not count.</param>
    public static bool TryPop(ref ulong state, ReadOnlySpan<ulong> calls, ulong stackPointer, ulong popped, ulong function, out ulong ticks)
    {
        for (int use = Math.Min(UseOf(state), calls.Length) - CallWords; use >= 0; use -= CallWords)
        {
            if (calls[use + 1] == function && stackPointer - calls[use] <= popped)
            {
                ticks = calls[use + 2];
                Replace(ref state, use);
                return true;
            }
        }

        ticks = 0;
        return false;
    }

    private static void Replace(ref ulong state, int use) => Volatile.Write(ref state, ((ulong)use << UseShift) | (uint)(state + 1));
}
