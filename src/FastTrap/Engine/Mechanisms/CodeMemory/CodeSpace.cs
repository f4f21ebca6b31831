using System.Diagnostics.CodeAnalysis;
using FastTrap.Control;
using FastTrap.Native;

namespace FastTrap.Engine.Mechanisms;

/// <summary>
/// Memory for trampolines: regions near the modules, executable in the target and writable here, never both in one place. Control thread only.
/// </summary>
/// <remarks>Trampolines lie one behind the other; an area whose last one was freed is used anew from its start. Who frees one has seen that no thread is in it.</remarks>
internal sealed class CodeSpace(ProcessHandle process)
{
    private const int LeastLength = 1 << 20;
    private const int MostLength = 32 << 20;

    /// <summary>How far a region may be from a site, so that what the site's instructions refer to can be reached from there as well.</summary>
    private const ulong Reach = 1UL << 30;

    private readonly List<TrampolineArea> _areas = [];
    private readonly List<(ulong Start, ulong Length)> _mapped = [];

    public IReadOnlyList<(ulong Start, ulong Length)> Mapped => _mapped;

    public bool Contains(ulong address)
    {
        foreach (TrampolineArea area in _areas)
        {
            if (area.Region.Contains(address))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>A region with room within reach of a site, mapped if need be.</summary>
    /// <param name="site">The site.</param>
    /// <param name="length">Bytes that are needed.</param>
    /// <param name="expected">Bytes that all sites which are to come may need.</param>
    /// <param name="area">The area.</param>
    /// <param name="reason">Why there is none.</param>
    public bool TryFind(ulong site, int length, long expected, [NotNullWhen(true)] out TrampolineArea? area, out string reason)
    {
        reason = "";
        foreach (TrampolineArea candidate in _areas)
        {
            ulong start = candidate.Region.Address;
            ulong distance = start > site ? start + (ulong)candidate.Region.Length - site : site - start;
            if (distance < Reach && candidate.HasRoom(length))
            {
                area = candidate;
                return true;
            }
        }

        area = null;
        int wanted = (int)Math.Clamp((long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)expected), LeastLength, MostLength);
        CodeRegion? region = null;
        SharedMemoryFailure failure = default;
        if (!process.Thread.TryBorrow(process, task => CodeRegion.TryCreate(process, task, site, Reach, wanted, out region, out failure)))
        {
            reason = "no thread of the process could be stopped to map memory for trampolines";
            return false;
        }

        if (region is null)
        {
            if (failure.LeftStart != 0)
            {
                _mapped.Add((failure.LeftStart, failure.LeftLength));
            }

            reason = $"memory for trampolines could not be had: {failure.Describe()}";
            return false;
        }

        area = new TrampolineArea(region);
        _areas.Add(area);
        _mapped.Add(region.Mapped);
        return true;
    }

    /// <summary>The address space is gone.</summary>
    public void Forget()
    {
        foreach (TrampolineArea area in _areas)
        {
            area.Region.Dispose();
        }

        _areas.Clear();
        _mapped.Clear();
    }
}

/// <summary>One region of trampolines, and how far it is used.</summary>
internal sealed class TrampolineArea(CodeRegion region)
{
    private const int Alignment = 16;

    private int _live;
    private int _used = CodeRegion.HeaderLength;

    public CodeRegion Region => region;

    /// <summary>Where the next trampoline will be.</summary>
    public ulong Next => region.Address + (ulong)_used;

    public bool HasRoom(int length) => _used + length + Alignment <= region.Length;

    /// <summary>Writes the next trampoline.</summary>
    public void Add(ReadOnlySpan<byte> code)
    {
        region.Write(Next, code);
        _used = (_used + code.Length + Alignment - 1) & -Alignment;
        _live++;
    }

    /// <summary>One of them is used no more, and nobody is in it.</summary>
    public void Free()
    {
        if (--_live == 0)
        {
            _used = CodeRegion.HeaderLength;
        }
    }
}
