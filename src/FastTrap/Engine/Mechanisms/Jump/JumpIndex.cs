using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace FastTrap.Engine.Mechanisms;

/// <summary>The sites of a process by where they are in the text and where their trampolines are. Immutable, replaced as a whole; any thread.</summary>
internal sealed class JumpIndex
{
    private readonly JumpSite[] _byStart;
    private readonly JumpSite[] _byTrampoline;
    private readonly Dictionary<ulong, JumpSite> _islands = [];

    private JumpIndex(JumpSite[] sites)
    {
        _byStart = [.. sites.OrderBy(s => s.Start)];
        _byTrampoline = [.. sites.Where(s => s.Code is not null).OrderBy(s => s.Code!.Address)];
        foreach (JumpSite site in sites)
        {
            if (site.Window.Island != 0)
            {
                _islands[site.Window.Island] = site;
            }
        }
    }

    public static JumpIndex Empty { get; } = new([]);

    public int Count => _byStart.Length;

    /// <summary>All of them, in the order of their windows.</summary>
    public ReadOnlySpan<JumpSite> Sites => _byStart;

    public static JumpIndex Create(IEnumerable<JumpSite> sites) => new([.. sites]);

    public JumpIndex With(IEnumerable<JumpSite> sites) => new([.. _byStart, .. sites]);

    public JumpIndex Without(IReadOnlySet<JumpSite> sites) => new([.. _byStart.Where(s => !sites.Contains(s))]);

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
        if (_islands.Count != 0 && _islands.TryGetValue(address, out site))
        {
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

        foreach (JumpSite site in _islands.Values.Where(s => s.State != JumpState.Gone))
        {
            Copy(site.IslandOriginal, site.Window.Island, address, bytes);
        }
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
