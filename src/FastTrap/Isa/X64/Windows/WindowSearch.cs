namespace FastTrap.Isa.X64;

/// <summary>The search for one window: the shortest that begins at the instruction asked for, or else before it, or else one with an island.</summary>
internal readonly ref struct WindowSearch(CodeFlow flow, int unitStart, int unitEnd, CodeTraits traits, WindowClaims? claims)
{
    private const int MaxStepsBack = 8;
    public const int EndbrLength = 4;
    private const int MaxLength = 64;

    /// <summary>How far before the window's start an island may begin, and behind it.</summary>
    private const int IslandBefore = 126;
    private const int IslandBehind = 129;

    private readonly bool _single = (traits & CodeTraits.HasUnknownTargets) != 0;

    /// <summary>Finds a window with the instructions at two offsets and those between them.</summary>
    public bool TryFind(int first, int last, out PatchWindow window, out WindowRefusal refusal)
    {
        window = default;
        refusal = WindowRefusal.NotAnInstruction;
        if (last >= unitEnd || !flow.Starts[first] || !flow.Starts[last])
        {
            return false;
        }

        if (IsEndbr(first))
        {
            bool both = first == last;
            first += EndbrLength;
            last = both ? first : last;
            if (first >= unitEnd || first > last)
            {
                return false;
            }

            if (flow.Targets[first])
            {
                refusal = WindowRefusal.BranchTarget;
                return false;
            }
        }

        refusal = WindowRefusal.None;
        return TryNear(first, last, withCalls: false, out window, ref refusal)
            || TryNear(first, last, withCalls: true, out window, ref refusal)
            || TryShort(first, last, out window, ref refusal);
    }

    private bool TryNear(int first, int last, bool withCalls, out PatchWindow window, ref WindowRefusal refusal)
    {
        int start = first;
        for (int step = 0; step <= MaxStepsBack; step++)
        {
            if (TryExtend(start, first, last, PatchWindow.NearLength, withCalls, out window, ref refusal))
            {
                return true;
            }

            if (!TryStepBack(ref start))
            {
                break;
            }
        }

        window = default;
        return false;
    }

    private bool TryShort(int first, int last, out PatchWindow window, ref WindowRefusal refusal)
    {
        int start = first;
        for (int step = 0; step <= MaxStepsBack; step++)
        {
            if (TryExtend(start, first, last, PatchWindow.ShortLength, true, out window, ref refusal)
                && TryFindIsland(start, start + window.Length, out int island))
            {
                window = window with { Kind = WindowKind.Short, Island = flow.Address + (ulong)island };
                return true;
            }

            if (!TryStepBack(ref start))
            {
                break;
            }
        }

        window = default;
        refusal = refusal == WindowRefusal.None ? WindowRefusal.Target : refusal;
        return false;
    }

    /// <summary>Whole instructions from <paramref name="start"/> on, until there are enough bytes, then padding.</summary>
    private bool TryExtend(int start, int first, int last, int minimum, bool withCalls, out PatchWindow window, ref WindowRefusal refusal)
    {
        window = default;
        int at = start;
        bool ends = false;
        while (at <= last || at - start < minimum)
        {
            if (ends || at >= unitEnd)
            {
                break;
            }

            if (at > start && (flow.Targets[at] || _single))
            {
                Report(ref refusal, _single ? WindowRefusal.UnknownTargets : WindowRefusal.Target);
                return false;
            }

            int next = flow.Starts.Next(at + 1, unitEnd);
            Movable movable = X64Movability.Examine(flow.Code[at..Math.Min(flow.Length, at + X64Classifier.MaxInstructionLength)], flow.Address + (ulong)at);
            if (movable.Length != next - at || !movable.IsMovable)
            {
                Report(ref refusal, WindowRefusal.NotMovable);
                return false;
            }

            if (flow.Targets.Next(at + 1, next) < next)
            {
                Report(ref refusal, WindowRefusal.Target);
                return false;
            }

            if (movable.IsCall && !withCalls && at != last)
            {
                Report(ref refusal, WindowRefusal.Target);
                return false;
            }

            ends = movable.EndsFlow;
            at = next;
        }

        if (at <= last)
        {
            Report(ref refusal, WindowRefusal.Target);
            return false;
        }

        int end = Math.Max(at, start + minimum);
        if (end > at && !(ends && IsPadding(at, end)))
        {
            Report(ref refusal, _single ? WindowRefusal.UnknownTargets : WindowRefusal.Target);
            return false;
        }

        if (end - start > MaxLength || (claims != null && !claims.IsFree(start, end)))
        {
            Report(ref refusal, WindowRefusal.Claimed);
            return false;
        }

        window = new PatchWindow(
            flow.Address + (ulong)start, (byte)(end - start), (byte)(at - start), flow.Address + (ulong)first, WindowKind.Near, 0);
        return true;
    }

    /// <summary>Goes to the instruction before, if control comes to <paramref name="start"/> from there only.</summary>
    private bool TryStepBack(ref int start)
    {
        if (_single || flow.Targets[start])
        {
            return false;
        }

        int before = flow.Starts.Previous(unitStart, start);
        if (before < 0 || flow.Padding[before])
        {
            return false;
        }

        Movable movable = X64Movability.Examine(flow.Code[before..start], flow.Address + (ulong)before);
        if (!movable.IsMovable || movable.EndsFlow || movable.Length != start - before)
        {
            return false;
        }

        start = before;
        return true;
    }

    /// <summary>Whether nothing reaches a range of bytes behind an instruction that does not go on.</summary>
    private bool IsPadding(int start, int end)
    {
        if (end > flow.Length || flow.Targets.Next(start, end) < end)
        {
            return false;
        }

        for (int at = start; at < end; at++)
        {
            if (!flow.Padding[at])
            {
                return false;
            }
        }

        return true;
    }

    private bool TryFindIsland(int start, int end, out int island)
    {
        int low = Math.Max(0, start - IslandBefore);
        int high = Math.Min(flow.Length, start + IslandBehind + PatchWindow.NearLength);
        int run = flow.Padding.Next(low, high);
        while (run < high)
        {
            int begin = run;
            while (begin > 0 && flow.Padding[begin - 1])
            {
                begin--;
            }

            int stop = run;
            while (stop < high && flow.Padding[stop])
            {
                stop++;
            }

            // What a target leads to is no padding, to the end of the run.
            int free = flow.Targets.Next(begin, stop);
            for (int at = run; at + PatchWindow.NearLength <= free; at++)
            {
                if ((at >= end || at + PatchWindow.NearLength <= start) && (claims == null || claims.IsFree(at, at + PatchWindow.NearLength)) && IsUsable(at))
                {
                    island = at;
                    return true;
                }
            }

            run = flow.Padding.Next(stop, high);
        }

        island = 0;
        return false;
    }

    private bool IsUsable(int offset)
    {
        int unit = flow.FindUnit(offset);
        return unit < 0 || (flow.GetUnit(unit).Traits & CodeTraits.NotDecodable) == 0;
    }

    private bool IsEndbr(int offset) => offset + EndbrLength <= unitEnd && flow.Code.Slice(offset, EndbrLength).SequenceEqual((ReadOnlySpan<byte>)[0xf3, 0x0f, 0x1e, 0xfa]);

    /// <summary>The first reason is the one of the window which would have been preferred.</summary>
    private static void Report(ref WindowRefusal refusal, WindowRefusal reason) => refusal = refusal == WindowRefusal.None ? reason : refusal;
}
