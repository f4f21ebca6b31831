using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>The steps by which a window's bytes change.</summary>
internal enum JumpStep : byte
{
    /// <summary>Original: the trap goes to the first byte.</summary>
    Trap,

    /// <summary>Behind the trap, the rest of the jump.</summary>
    JumpTail,

    /// <summary>The first byte of the jump.</summary>
    JumpHead,

    /// <summary>Jump: the trap goes to the first byte.</summary>
    Lead,

    /// <summary>Behind the trap, the original.</summary>
    OriginalTail,

    /// <summary>The original first byte.</summary>
    OriginalHead,
}

/// <summary>Writes steps into the text, with one write for a page however many windows there are in it. A window which does not show what it must is left alone.</summary>
/// <remarks>Control thread, but for <see cref="Restore"/>. Between two bytes of a page that change those that do not are written as they are.</remarks>
internal sealed class JumpText(IPlatform platform, TargetMemory memory)
{
    public const byte Trap = 0xcc;

    private const int PageLength = 4096;
    private const ulong PageMask = ~(PageLength - 1UL);

    private readonly byte[] _page = new byte[PageLength + 16];

    /// <summary>Takes a step at the sites of one page. Returns how many of them were there; those which failed are added.</summary>
    /// <param name="sites">In the order of addresses.</param>
    /// <param name="step">The step.</param>
    /// <param name="failed">Takes those whose bytes are not what they must be, or cannot be written.</param>
    public int WritePage(ReadOnlySpan<JumpSite> sites, JumpStep step, List<JumpSite> failed)
    {
        ulong start = sites[0].Start;
        int count = 1;
        while (count < sites.Length && (sites[count].Start & PageMask) == (start & PageMask))
        {
            count++;
        }

        Span<byte> bytes = _page.AsSpan(0, (int)(sites[count - 1].PatchEnd - start));
        if (platform.ReadCode(memory, start, bytes) != bytes.Length)
        {
            WriteEach(sites[..count], step, failed);
            NoteTails(sites[..count], step, failed);
            return count;
        }

        bool isChanged = false;
        foreach (JumpSite site in sites[..count])
        {
            if (TryStep(site, bytes.Slice((int)(site.Start - start), site.PatchLength), step))
            {
                isChanged = true;
            }
            else
            {
                failed.Add(site);
            }
        }

        if (isChanged && platform.WriteCode(memory, start, bytes) != bytes.Length)
        {
            WriteEach(sites[..count], step, failed);
        }

        NoteTails(sites[..count], step, failed);
        return count;
    }

    /// <summary>Writes an island, in or out. False if its bytes are others.</summary>
    public bool WriteIsland(JumpSite site, bool isIn)
    {
        if (site.IslandPatch.Length == 0)
        {
            return true;
        }

        Span<byte> now = stackalloc byte[site.IslandPatch.Length];
        byte[] from = isIn ? site.IslandOriginal : site.IslandPatch;
        byte[] to = isIn ? site.IslandPatch : site.IslandOriginal;
        return platform.ReadCode(memory, site.Window.Island, now) == now.Length && (now.SequenceEqual(from) || now.SequenceEqual(site.Former?.IslandPatch))
            && platform.WriteCode(memory, site.Window.Island, to) == to.Length;
    }

    /// <summary>The original, whatever step the window shows: for a copy of the memory in which nobody runs, and for the last moment. Any thread.</summary>
    /// <param name="platform">The kernel.</param>
    /// <param name="memory">The memory, or a copy.</param>
    /// <param name="site">The site.</param>
    /// <returns>False if one of our bytes is there and could not be replaced.</returns>
    public static bool Restore(IPlatform platform, TargetMemory memory, JumpSite site)
    {
        Span<byte> now = stackalloc byte[site.PatchLength];
        bool isDone = true;
        if (platform.ReadCode(memory, site.Start, now) == now.Length && IsOurs(site, now))
        {
            ReadOnlySpan<byte> original = site.Original.AsSpan(0, site.PatchLength);
            isDone = platform.WriteCode(memory, site.Start, [Trap]) == 1
                && (original.Length == 1 || platform.WriteCode(memory, site.Start + 1, original[1..]) == original.Length - 1)
                && platform.WriteCode(memory, site.Start, original[..1]) == 1;
        }

        if (site.IslandPatch.Length != 0)
        {
            Span<byte> island = stackalloc byte[site.IslandPatch.Length];
            if (platform.ReadCode(memory, site.Window.Island, island) == island.Length && (island.SequenceEqual(site.IslandPatch) || island.SequenceEqual(site.Former?.IslandPatch)))
            {
                isDone &= platform.WriteCode(memory, site.Window.Island, site.IslandOriginal) == site.IslandOriginal.Length;
            }
        }

        return isDone;
    }

    /// <summary>Whether bytes at a window show one of our steps, or a step that was written in part.</summary>
    public static bool IsOurs(JumpSite site, ReadOnlySpan<byte> now)
    {
        byte[]? former = site.Former?.Patch;
        if (now[0] != Trap)
        {
            return now.SequenceEqual(site.Patch) || now.SequenceEqual(former);
        }

        for (int i = 1; i < now.Length; i++)
        {
            if (now[i] != site.Original[i] && now[i] != site.Patch[i] && now[i] != Trap && now[i] != former?[i])
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>The original tail, or that with a breakpoint's trap in it.</summary>
    private static bool HasOriginalTail(JumpSite site, ReadOnlySpan<byte> now)
    {
        for (int i = 1; i < now.Length; i++)
        {
            if (now[i] != site.Original[i] && now[i] != Trap)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Changes the bytes of one window; false if they are not what the step begins with.</summary>
    private static bool TryStep(JumpSite site, Span<byte> now, JumpStep step)
    {
        ReadOnlySpan<byte> original = site.Original.AsSpan(0, site.PatchLength);
        switch (step)
        {
            case JumpStep.Trap when now.SequenceEqual(original):
                now[0] = Trap;
                return true;
            case JumpStep.JumpTail when now[0] == Trap && (now[1..].SequenceEqual(original[1..]) || (site.Former is not null && IsOurs(site, now))):
                site.Patch.AsSpan(1).CopyTo(now[1..]);
                return true;
            case JumpStep.JumpHead when now[0] == Trap && now[1..].SequenceEqual(site.Patch.AsSpan(1)):
                now[0] = site.Patch[0];
                return true;
            case JumpStep.Lead when IsOurs(site, now):
                now[0] = Trap;
                return true;
            case JumpStep.OriginalTail when !site.HasJumpTail && now[0] == Trap && HasOriginalTail(site, now):
                // It is back already; a breakpoint's trap may stand in it. (A jump may have that byte, too, so bytes alone do not tell.)
                return true;
            case JumpStep.OriginalTail when now[0] == Trap && IsOurs(site, now):
                original[1..].CopyTo(now[1..]);
                return true;
            case JumpStep.OriginalHead when (now[0] == Trap || now[0] == original[0]) && HasOriginalTail(site, now):
                // (It may have been taken before, for a thread that waited.)
                now[0] = original[0];
                return true;
            default:
                return false;
        }
    }

    private static void NoteTails(ReadOnlySpan<JumpSite> sites, JumpStep step, List<JumpSite> failed)
    {
        if (step is JumpStep.JumpTail or JumpStep.OriginalTail)
        {
            foreach (JumpSite site in sites)
            {
                site.HasJumpTail = failed.Contains(site) ? site.HasJumpTail : step == JumpStep.JumpTail;
            }
        }
    }

    private void WriteEach(ReadOnlySpan<JumpSite> sites, JumpStep step, List<JumpSite> failed)
    {
        Span<byte> bytes = stackalloc byte[16];
        foreach (JumpSite site in sites)
        {
            Span<byte> now = bytes[..site.PatchLength];
            if (failed.Contains(site))
            {
                continue;
            }

            if (platform.ReadCode(memory, site.Start, now) != now.Length || !TryStep(site, now, step) || platform.WriteCode(memory, site.Start, now) != now.Length)
            {
                failed.Add(site);
            }
        }
    }
}
