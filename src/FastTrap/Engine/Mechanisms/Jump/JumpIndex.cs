using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using FastTrap.Isa.X64;

namespace FastTrap.Engine.Mechanisms;

/// <summary>The sites of a process by where they are in the text and where their trampolines are. Immutable, replaced as a whole; any thread.</summary>
internal sealed class JumpIndex
{
    private static readonly Comparison<JumpSite> s_byStart = (a, b) => a.Start.CompareTo(b.Start);
    private static readonly Comparison<JumpSite> s_byTrampoline = (a, b) => a.Code!.Address.CompareTo(b.Code!.Address);

    private static readonly Comparison<JumpSite> s_byIsland = (a, b) => a.Window.Island.CompareTo(b.Window.Island);

    private readonly JumpSite[] _byStart;
    private readonly JumpSite[] _byTrampoline;
    private readonly JumpSite[] _superseded;

    /// <summary>Those that have one, by its address.</summary>
    private readonly JumpSite[] _byIsland;

    private JumpIndex(JumpSite[] byStart, JumpSite[] byTrampoline)
    {
        _byStart = byStart;
        _byTrampoline = byTrampoline;
        _superseded = Array.FindAll(byTrampoline, s => s.State == JumpState.Superseded);
        _byIsland = Array.FindAll(byStart, s => s.Window.Island != 0);
        Array.Sort(_byIsland, s_byIsland);
    }

    public static JumpIndex Empty { get; } = new([], []);

    public int Count => _byStart.Length;

    /// <summary>All of them, in the order of their windows.</summary>
    public ReadOnlySpan<JumpSite> Sites => _byStart;

    /// <summary>Those that have only a trampoline left, in which threads may be.</summary>
    public ReadOnlySpan<JumpSite> Superseded => _superseded;

    public JumpIndex With(IReadOnlyList<JumpSite> sites)
    {
        JumpSite[] byStart = [.. sites];
        JumpSite[] byTrampoline = [.. sites.Where(s => s.Code is not null)];
        Sort(byStart, s_byStart);
        Sort(byTrampoline, s_byTrampoline);
        return new JumpIndex(Merge(Array.FindAll(_byStart, s => s.State != JumpState.Superseded), byStart, s_byStart), Merge(_byTrampoline, byTrampoline, s_byTrampoline));
    }

    public JumpIndex Without(IReadOnlySet<JumpSite> sites) =>
        new(Array.FindAll(_byStart, s => !sites.Contains(s)), Array.FindAll(_byTrampoline, s => !sites.Contains(s)));

    /// <summary>The site whose window begins at an address.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public JumpSite? FindStart(ulong address)
    {
        int at = IndexOf(address);
        return at >= 0 && _byStart[at].Start == address ? _byStart[at] : null;
    }

    /// <summary>The site whose window has an instruction, or a replaced byte, at an address.</summary>
    public JumpSite? FindWindow(ulong address)
    {
        int at = IndexOf(address);
        return at >= 0 && address < EndOf(_byStart[at]) ? _byStart[at] : null;
    }

    /// <summary>The site whose trampoline holds an address, or whose island is there.</summary>
    public bool TryFindOutOfLine(ulong address, [NotNullWhen(true)] out JumpSite? site)
    {
        int island = FirstIsland(address);
        if (island < _byIsland.Length && _byIsland[island].Window.Island == address)
        {
            site = _byIsland[island];
            return true;
        }

        int low = 0;
        int high = _byTrampoline.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            if (_byTrampoline[middle].Code!.Address <= address)
            {
                low = middle + 1;
            }
            else
            {
                high = middle - 1;
            }
        }

        site = high >= 0 && _byTrampoline[high].Code!.Contains(address) ? _byTrampoline[high] : null;
        return site is not null;
    }

    /// <summary>Replaces what is, or may be, a jump in bytes that were read by what it displaced.</summary>
    public void Unmask(ulong address, Span<byte> bytes)
    {
        if (_byStart.Length == 0 || bytes.IsEmpty)
        {
            return;
        }

        ulong end = address + (ulong)bytes.Length;
        for (int i = Math.Max(0, IndexOf(address)); i < _byStart.Length && _byStart[i].Start < end; i++)
        {
            JumpSite site = _byStart[i];
            if (site.State == JumpState.Gone)
            {
                // The text is as it was, or another library's.
                continue;
            }

            Copy(site.Original.AsSpan(0, site.PatchLength), site.Start, address, bytes);
        }

        for (int i = FirstIsland(address - Math.Min(address, PatchWindow.NearLength)); i < _byIsland.Length && _byIsland[i].Window.Island < end; i++)
        {
            if (_byIsland[i].State != JumpState.Gone)
            {
                Copy(_byIsland[i].IslandOriginal, _byIsland[i].Window.Island, address, bytes);
            }
        }
    }

    /// <summary>The first island at or behind an address.</summary>
    private int FirstIsland(ulong address)
    {
        int low = 0;
        int high = _byIsland.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (_byIsland[middle].Window.Island < address)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low;
    }

    /// <summary>They are made in order, as a rule.</summary>
    private static void Sort(JumpSite[] sites, Comparison<JumpSite> comparison)
    {
        for (int i = 1; i < sites.Length; i++)
        {
            if (comparison(sites[i - 1], sites[i]) > 0)
            {
                Array.Sort(sites, comparison);
                return;
            }
        }
    }

    /// <summary>Two sorted rows as one.</summary>
    private static JumpSite[] Merge(JumpSite[] left, JumpSite[] right, Comparison<JumpSite> comparison)
    {
        JumpSite[] merged = new JumpSite[left.Length + right.Length];
        for (int i = 0, l = 0, r = 0; i < merged.Length; i++)
        {
            merged[i] = r == right.Length || (l < left.Length && comparison(left[l], right[r]) <= 0) ? left[l++] : right[r++];
        }

        return merged;
    }

    private static ulong EndOf(JumpSite site) => Math.Max(site.Window.CodeEnd, site.PatchEnd);

    private static void Copy(ReadOnlySpan<byte> original, ulong at, ulong address, Span<byte> bytes)
    {
        for (int i = 0; i < original.Length; i++)
        {
            ulong offset = at + (ulong)i - address;
            if (offset < (ulong)bytes.Length)
            {
                bytes[(int)offset] = original[i];
            }
        }
    }

    /// <summary>The last site that begins at or before an address; -1: none.</summary>
    private int IndexOf(ulong address)
    {
        JumpSite[] sites = _byStart;
        int low = 0;
        int high = sites.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            if (sites[middle].Start <= address)
            {
                low = middle + 1;
            }
            else
            {
                high = middle - 1;
            }
        }

        return high;
    }
}
