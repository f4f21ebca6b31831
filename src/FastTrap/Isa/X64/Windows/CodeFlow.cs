namespace FastTrap.Isa.X64;

/// <summary>A function's extent.</summary>
/// <param name="Start">The first byte.</param>
/// <param name="Length">Bytes.</param>
/// <param name="IsPart">Whether it was split off another function, which jumps into it, and it back.</param>
internal readonly record struct CodeRange(ulong Start, ulong Length, bool IsPart);

/// <summary>What is known of a function's flow.</summary>
[Flags]
internal enum CodeTraits : byte
{
    None = 0,

    /// <summary>It holds data, overlapping instructions, or bytes that are no instruction.</summary>
    NotDecodable = 1,

    /// <summary>It holds an indirect jump which is not understood, or may be the target of one of another part of it.</summary>
    HasUnknownTargets = 2,
}

/// <summary>
/// The flow of control in a piece of code, usually a whole module's: where instructions start, and where control can come from elsewhere. Addresses are as
/// given, link-time ones or the target's.
/// </summary>
/// <remarks>
/// Immutable; any thread. A whole module is swept at once, because control comes from everywhere: split-off parts jump back into their functions, and
/// assembly jumps into its neighbours. Targets are those of all direct branches, all instructions behind a call, all addresses that are taken, the entries of
/// jump tables, and what the caller adds; a target too many costs a window, one too few a crash.
/// </remarks>
internal sealed class CodeFlow
{
    private readonly byte[] _code;
    private readonly int[] _unitStarts;
    private readonly int[] _unitEnds;
    private readonly CodeTraits[] _unitTraits;

    internal CodeFlow(CodeFlowBuilder builder)
    {
        _code = builder.Code;
        Address = builder.Address;
        Length = builder.Length;
        Starts = builder.Starts;
        Targets = builder.Targets;
        Padding = builder.Padding;
        _unitStarts = [.. builder.UnitStarts];
        _unitEnds = [.. builder.UnitEnds];
        _unitTraits = [.. builder.UnitTraits];
        UnknownJumps = builder.UnknownJumps;
        JumpTables = builder.JumpTables;
    }

    /// <summary>The first byte's address.</summary>
    public ulong Address { get; }

    /// <summary>Bytes.</summary>
    public int Length { get; }

    /// <summary>Starts of instructions.</summary>
    internal CodeBits Starts { get; }

    /// <summary>Where control may come from elsewhere.</summary>
    internal CodeBits Targets { get; }

    /// <summary>Bytes that fill gaps behind instructions which do not go on; where a target stands in a run of them, they are not free from there on.</summary>
    internal CodeBits Padding { get; }

    /// <summary>How many parts of functions the code consists of.</summary>
    internal int UnitCount => _unitStarts.Length;

    /// <summary>How many indirect jumps were not understood.</summary>
    internal int UnknownJumps { get; }

    /// <summary>How many jump tables were read.</summary>
    internal int JumpTables { get; }

    /// <summary>The code.</summary>
    internal ReadOnlySpan<byte> Code => _code.AsSpan(0, Length);

    /// <summary>
    /// Analyses code.
    /// </summary>
    /// <param name="code">The original bytes.</param>
    /// <param name="address">Where they stand.</param>
    /// <param name="functions">The functions in them, in any order; they may overlap. What is in none gets no window, but its branches count.</param>
    /// <param name="targets">
    /// Where control may come from elsewhere: landing pads, symbols, and all addresses of code that stand in data or are made by relocations. Those outside
    /// the code are ignored.
    /// </param>
    /// <param name="isAbsolute">Whether it cannot be loaded elsewhere, so that addresses may be immediates of 32 bits.</param>
    /// <param name="readData">Reads what lies outside the code, by address: returns bytes read.</param>
    public static CodeFlow Analyse(
        ReadOnlySpan<byte> code, ulong address, ReadOnlySpan<CodeRange> functions, ReadOnlySpan<ulong> targets, bool isAbsolute, CodeDataReader readData)
    {
        CodeFlowBuilder builder = new(code, address, isAbsolute, readData);
        builder.AddTargets(targets);
        builder.AddFunctions(functions);
        builder.Sweep();
        builder.Resolve();
        return new CodeFlow(builder);
    }

    /// <summary>Whether a known function's instruction starts there.</summary>
    public bool IsInstruction(ulong address) => address - Address < (ulong)Length && Starts[(int)(address - Address)] && FindUnit((int)(address - Address)) >= 0;

    /// <summary>Whether control may come there from elsewhere than the instruction before.</summary>
    public bool IsTarget(ulong address) => address - Address < (ulong)Length && Targets[(int)(address - Address)];

    /// <summary>What is known of the function at an address; not decodable where there is none.</summary>
    public CodeTraits TraitsAt(ulong address) =>
        address - Address < (ulong)Length && FindUnit((int)(address - Address)) is >= 0 and int unit ? _unitTraits[unit] : CodeTraits.NotDecodable;

    /// <summary>
    /// Finds where a jump may be placed so that the instruction at <paramref name="address"/> is reached through it. Addresses and islands that
    /// <paramref name="claims"/> holds are not used again; the window found is not added to them.
    /// </summary>
    /// <remarks>Allocates nothing. The bytes must still be compared with the target's before they are replaced.</remarks>
    public bool TryFindWindow(ulong address, WindowClaims? claims, out PatchWindow window, out WindowRefusal refusal) =>
        TryFindWindow(address, address, claims, out window, out refusal);

    /// <summary>As the other, for one window that contains two instructions and those between them.</summary>
    public bool TryFindWindow(ulong first, ulong last, WindowClaims? claims, out PatchWindow window, out WindowRefusal refusal)
    {
        window = default;
        refusal = WindowRefusal.NotAnInstruction;
        if (first - Address >= (ulong)Length || last - Address >= (ulong)Length || last < first)
        {
            return false;
        }

        int unit = FindUnit((int)(first - Address));
        if (unit < 0 || (_unitTraits[unit] & CodeTraits.NotDecodable) != 0)
        {
            refusal = WindowRefusal.NotDecodable;
            return false;
        }

        WindowSearch search = new(this, _unitStarts[unit], _unitEnds[unit], _unitTraits[unit], claims);
        return search.TryFind((int)(first - Address), (int)(last - Address), out window, out refusal);
    }

    /// <summary>The extent and traits of a part.</summary>
    internal (int Start, int End, CodeTraits Traits) GetUnit(int unit) => (_unitStarts[unit], _unitEnds[unit], _unitTraits[unit]);

    /// <summary>The part that contains an offset, or -1.</summary>
    internal int FindUnit(int offset)
    {
        int index = Array.BinarySearch(_unitStarts, offset);
        index = index < 0 ? ~index - 1 : index;
        return index >= 0 && offset < _unitEnds[index] ? index : -1;
    }
}

/// <summary>Reads memory or a file by address; returns how many bytes there are, 0 for none.</summary>
internal delegate int CodeDataReader(ulong address, Span<byte> buffer);
