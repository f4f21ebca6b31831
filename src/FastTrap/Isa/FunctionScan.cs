namespace FastTrap.Isa;

/// <summary>How a return site leaves its function.</summary>
internal enum ReturnSiteKind : byte
{
    /// <summary>A near return.</summary>
    Return,

    /// <summary>A jump to a known address outside the function.</summary>
    Exit,

    /// <summary>A conditional jump to a known address outside the function.</summary>
    ConditionalExit,

    /// <summary>An indirect jump: whether it leaves is seen at the hit, by the new program counter.</summary>
    MaybeLeaves,
}

/// <summary>An instruction after which the function may have been left.</summary>
/// <param name="Offset">Bytes from the function's start.</param>
/// <param name="Kind">How it leaves.</param>
/// <param name="Target">The target of a direct jump, for the caller to compare with the function's own split part; otherwise 0.</param>
internal readonly record struct ReturnSite(int Offset, ReturnSiteKind Kind, ulong Target);

/// <summary>The result of a linear sweep over a function. Reusable; not thread-safe.</summary>
internal sealed class FunctionScan
{
    /// <summary>Offsets of all instructions, ascending.</summary>
    public List<int> InstructionOffsets { get; } = [];

    /// <summary>Where the function may be left, ascending.</summary>
    public List<ReturnSite> ReturnSites { get; } = [];

    /// <summary>
    /// Offsets of instructions between a load-exclusive and its store-exclusive, ascending: a trap there would make the store fail for ever.
    /// </summary>
    public List<int> ExclusiveOffsets { get; } = [];

    /// <summary>Words inside the function which its own instructions load; working memory of the sweep.</summary>
    internal HashSet<int> LiteralOffsets { get; } = [];

    /// <summary>Targets of direct branches inside the function; working memory of the sweep.</summary>
    internal List<int> InnerTargets { get; } = [];

    /// <summary>Whether an instruction starts at <paramref name="offset"/>.</summary>
    public bool IsInstruction(int offset) => InstructionOffsets.BinarySearch(offset) >= 0;

    /// <summary>Whether the instruction at <paramref name="offset"/> is part of an exclusive sequence.</summary>
    public bool IsInExclusiveSequence(int offset) => ExclusiveOffsets.BinarySearch(offset) >= 0;

    /// <summary>Empties the lists, keeping their memory.</summary>
    public void Clear()
    {
        InstructionOffsets.Clear();
        ReturnSites.Clear();
        InnerTargets.Clear();
        ExclusiveOffsets.Clear();
        LiteralOffsets.Clear();
    }
}
