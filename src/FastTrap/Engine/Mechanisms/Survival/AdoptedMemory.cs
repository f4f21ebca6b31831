namespace FastTrap.Engine.Mechanisms;

/// <summary>Memory of another tracer's, from when it is taken over until it is unmapped. Control thread only.</summary>
internal sealed class AdoptedMemory
{
    private readonly List<(ulong Start, ulong Length)> _mapped = [];
    private readonly List<(ulong Start, ulong Length)> _code = [];
    private readonly List<(ulong Start, ulong Length)> _guards = [];
    private ulong _lowest;
    private ulong _highest;

    /// <summary>All of it.</summary>
    public IReadOnlyList<(ulong Start, ulong Length)> Mapped => _mapped;

    /// <summary>Where the guards' states are.</summary>
    public IReadOnlyList<ulong> GuardStates { get; private set; } = [];

    public bool IsEmpty => _code.Count == 0;

    /// <summary>Whether an address lies in memory that is executed: of trampolines, of guards and of covers.</summary>
    public bool Contains(ulong address) => address - _lowest < _highest - _lowest && IsIn(_code, address);

    /// <summary>Whether an address lies in any of it.</summary>
    public bool IsMapped(ulong address) => IsIn(_mapped, address);

    /// <summary>Whether there is a handler of SIGTRAP, which leads threads from that tracer's traps.</summary>
    public bool HasGuard => _guards.Count != 0;

    public void Add(Leftovers left)
    {
        _mapped.AddRange(left.Regions);
        _code.AddRange(left.Code);
        _guards.AddRange(left.Guards);
        GuardStates = left.GuardStates;
        _lowest = IsEmpty ? 0 : _code.Min(r => r.Start);
        _highest = IsEmpty ? 0 : _code.Max(r => r.Start + r.Length);
    }

    /// <summary>It was unmapped, or stays and is nobody's again.</summary>
    public void Clear()
    {
        _mapped.Clear();
        _code.Clear();
        _guards.Clear();
        GuardStates = [];
        (_lowest, _highest) = (0, 0);
    }

    private static bool IsIn(List<(ulong Start, ulong Length)> ranges, ulong address)
    {
        foreach ((ulong start, ulong length) in ranges)
        {
            if (address - start < length)
            {
                return true;
            }
        }

        return false;
    }
}
