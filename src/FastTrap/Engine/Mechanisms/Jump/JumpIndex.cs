using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using FastTrap.Isa.X64;

namespace FastTrap.Engine.Mechanisms;

/// <summary>The sites of a process by where they are in the text and where their trampolines are. Immutable, replaced as a whole; any thread.</summary>
internal sealed class JumpIndex
{
    private static readonly Comparison<JumpSite> s_byIsland = (a, b) => a.Window.Island.CompareTo(b.Window.Island);

    private readonly Row _byStart;
    private readonly Row _byTrampoline;
    private readonly JumpSite[] _superseded;

    /// <summary>Those that have one, by its address.</summary>
    private readonly JumpSite[] _byIsland;

    private JumpIndex(Row byStart, Row byTrampoline, JumpSite[] superseded, JumpSite[] byIsland)
    {
        _byStart = byStart;
        _byTrampoline = byTrampoline;
        _superseded = superseded;
        _byIsland = byIsland;
    }

    public static JumpIndex Empty { get; } = new(new Row([], []), new Row([], []), [], []);

    public int Count => _byStart.Sites.Length;

    /// <summary>All of them, in the order of their windows.</summary>
    public ReadOnlySpan<JumpSite> Sites => _byStart.Sites;

    /// <summary>Those that have only a trampoline left, in which threads may be.</summary>
    public ReadOnlySpan<JumpSite> Superseded => _superseded;

    /// <summary>The index with more sites.</summary>
    /// <param name="sites">The sites.</param>
    /// <param name="supersede">Whether some of those that there were are superseded now.</param>
    public JumpIndex With(IReadOnlyList<JumpSite> sites, bool supersede = false)
    {
        JumpSite[] replaced = supersede ? Array.FindAll(_byStart.Sites, static s => s.State == JumpState.Superseded) : [];
        Row former = replaced.Length == 0 ? _byStart : _byStart.Where(static s => s.State != JumpState.Superseded);
        JumpSite[] byIsland = [.. _byIsland.Where(s => s.State != JumpState.Superseded), .. sites.Where(static s => s.Window.Island != 0)];
        Array.Sort(byIsland, s_byIsland);
        return new JumpIndex(
            Row.Merge(former, Row.Create([.. sites], static s => s.Start)),
            Row.Merge(_byTrampoline, Row.Create([.. sites.Where(static s => s.Code is not null)], static s => s.Code!.Address)),
            [.. _superseded, .. replaced], byIsland);
    }

    public JumpIndex WithoutFreed() => new(
        _byStart.Where(static s => !s.IsFreed), _byTrampoline.Where(static s => !s.IsFreed), Array.FindAll(_superseded, static s => !s.IsFreed), Array.FindAll(_byIsland, static s => !s.IsFreed));

    /// <summary>The site whose window begins at an address.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public JumpSite? FindStart(ulong address)
    {
        int at = _byStart.IndexOf(address);
        return at >= 0 && _byStart.Keys[at] == address ? _byStart.Sites[at] : null;
    }

    /// <summary>The site whose window has an instruction, or a replaced byte, at an address.</summary>
    public JumpSite? FindWindow(ulong address)
    {
        int at = _byStart.IndexOf(address);
        return at >= 0 && address < EndOf(_byStart.Sites[at]) ? _byStart.Sites[at] : null;
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

        int at = _byTrampoline.IndexOf(address);
        site = at >= 0 && _byTrampoline.Sites[at].Code!.Contains(address) ? _byTrampoline.Sites[at] : null;
        return site is not null;
    }

    /// <summary>Replaces what is, or may be, a jump in bytes that were read by what it displaced.</summary>
    public void Unmask(ulong address, Span<byte> bytes)
    {
        if (Count == 0 || bytes.IsEmpty)
        {
            return;
        }

        ulong end = address + (ulong)bytes.Length;
        for (int i = Math.Max(0, _byStart.IndexOf(address)); i < Count && _byStart.Keys[i] < end; i++)
        {
            JumpSite site = _byStart.Sites[i];
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

    /// <summary>Sites in the order of their keys, which stand by themselves: looking up, and making a new row while threads may wait, touches no others.</summary>
    private readonly record struct Row(ulong[] Keys, JumpSite[] Sites)
    {
        public static Row Create(JumpSite[] sites, Converter<JumpSite, ulong> key)
        {
            ulong[] keys = Array.ConvertAll(sites, key);
            for (int i = 1; i < keys.Length; i++)
            {
                if (keys[i - 1] > keys[i])
                {
                    Array.Sort(keys, sites);
                    break;
                }
            }

            return new Row(keys, sites);
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public static Row Merge(Row left, Row right)
        {
            Row merged = Make(left.Keys.Length + right.Keys.Length);
            for (int i = 0, l = 0, r = 0; i < merged.Keys.Length; i++)
            {
                bool isLeft = r == right.Keys.Length || (l < left.Keys.Length && left.Keys[l] <= right.Keys[r]);
                merged.Keys[i] = isLeft ? left.Keys[l] : right.Keys[r];
                merged.Sites[i] = isLeft ? left.Sites[l++] : right.Sites[r++];
            }

            return merged;
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public Row Where(Predicate<JumpSite> isMeant)
        {
            // Each site is looked at once: of many, that is what takes time.
            int[] meant = ArrayPool<int>.Shared.Rent(Sites.Length);
            int count = 0;
            for (int i = 0; i < Sites.Length; i++)
            {
                if (isMeant(Sites[i]))
                {
                    meant[count++] = i;
                }
            }

            Row row = this;
            if (count != Sites.Length)
            {
                row = Make(count);
                for (int i = 0; i < count; i++)
                {
                    row.Keys[i] = Keys[meant[i]];
                    row.Sites[i] = Sites[meant[i]];
                }
            }

            ArrayPool<int>.Shared.Return(meant);
            return row;
        }

        /// <summary>The last at or before an address; -1: none.</summary>
        public int IndexOf(ulong address)
        {
            ulong[] keys = Keys;
            int low = 0;
            int high = keys.Length - 1;
            while (low <= high)
            {
                int middle = (low + high) >>> 1;
                if (keys[middle] <= address)
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

        private static Row Make(int length) => new(new ulong[length], new JumpSite[length]);
    }
}
